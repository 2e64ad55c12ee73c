"""Files that cannot be trusted are refused in one line, and nothing in them is run or unpacked."""

import io
import os
import zipfile

import numpy as np
import pytest

from fastlam import arrays
from fastlam.data import load_paths, load_targets, save_paths

SUFFIXES = (".npy", ".npz", ".csv", ".parquet")


def matrix() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 6))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, np.nan, np.inf], r"k\.npy: targets must be finite, but k\[1\] = nan"),
        ([1.0, -np.inf], r"k\[1\] = -inf"),
        (np.ones((2, 2)), r"shape \(2, 2\), but targets are one number a time"),
        (np.ones((0,)), r"shape \(0,\)"),
        ([], r"shape \(0,\)"),
    ],
)
def test_bad_targets(tmp_path, values, message):
    np.save(tmp_path / "k.npy", values)
    with pytest.raises(ValueError, match=message):
        load_targets(tmp_path / "k.npy")


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def claim(shape: object, descr: object = "<f8", data: bytes = b"") -> bytes:
    """A .npy file whose header says what it likes."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(f"{name}.npy", content)
    return file.getvalue()


BAD = [
    (".npy", b"\x93NUMPY", "is not a .npy file"),
    (".npy", b"1,2\n3,4\n", "is not a .npy file"),
    (".npy", npy(matrix())[:-1], "191 bytes follow"),
    (".npy", npy(matrix()) + b"\0", "193 bytes follow"),
    (".npy", npy(matrix())[:40], "is not a .npy file"),
    (
        ".npy",
        claim((10**12, 5)),
        r"claims shape \(1000000000000, 5\) and dtype float64, 40,000,000,000,000 bytes, but 0",
    ),
    (".npy", claim((2**62, 2**62)), "but 0 bytes follow"),
    (".npy", claim((-1, -24), data=bytes(192)), "claims shape"),
    (".npy", claim((0, 5)), "shape .0, 5."),
    (".npy", claim("x"), "is not a .npy file"),
    (".npy", claim((2, 2), "nonsense"), "is not a .npy file"),
    (".npy", claim((2, 2), [("a", 1, 2, 3)]), "is not a .npy file"),
    (".npy", npy(np.ones(3)), r"shape \(3,\), but paths are a matrix"),
    (".npy", npy(np.ones((3, 2, 2))), r"shape \(3, 2, 2\), but paths are a matrix"),
    (".npy", npy(np.array(1.0)), r"shape \(\), but paths are a matrix"),
    (".npy", npy(np.ones((2, 2), complex)), "dtype complex128, but must have float32"),
    (".npy", npy(np.ones((2, 2), object)), "dtype object"),
    (".npy", npy(np.ones((2, 2), bool)), "dtype bool"),
    (".npy", npy(np.array([["a", "b"]])), "dtype <U1"),
    (".npy", npy(np.zeros((2, 2), "M8[s]")), "dtype datetime64"),
    (".npy", npy(np.zeros((2, 2), [("a", "f8")])), "dtype"),
    (".npy", npy(np.zeros((2, 2), np.longdouble)), "but must have float32"),
    (".npz", b"PK\x03\x04", "is not a readable .npz file"),
    (".npz", npy(matrix()), "is not a readable .npz file"),
    (".npz", archive(x=npy(matrix()))[:-30], "is not a readable .npz file"),
    (".npz", archive(x=claim((10**12, 5))), "40,000,000,000,000 bytes, but 0 bytes follow"),
    (".npz", archive(x=npy(np.ones((2, 2), object))), "dtype object"),
    (".npz", archive(x=b"text"), "x.npy is not a .npy file"),
    (".npz", archive(a=npy(matrix()), b=npy(matrix())), "must hold one array, or one named x, but holds a, b"),
    (".npz", archive(), "holds none"),
    (".csv", b"\n \n", "has no number in it"),
    (".csv", b"a,b\n", "has no number in it"),
    (".csv", b"1,2\n3,four\n", r"line 2, column 2: 'four' is not a number"),
    (".csv", b"a,b\n\n1,2\n3,\n", r"line 4, column 2: '' is not a number"),
    (".csv", b"1,2\n3,4,5\n", r"line 2 has 3 numbers, but the lines before have 2"),
    (".csv", b"1,b\n3,4\n", r"line 1, column 2: 'b' is not a number"),
    (".csv", b"1;2\n3;4\n4,5\n", r"is not a number|has 2 numbers"),
    (".csv", b"a\tb\n1\t2\n", r"line 2, column 1: '1\\t2' is not a number: between numbers there must be commas"),
    (".csv", b"1,5;-2,5\n", r"column 2: '5;-2' is not a number: between numbers there must be commas"),
    (".csv", b"1,2\n1_0,4\n", r"line 2, column 1: '1_0' is not a number"),
    (".csv", b"1,2\n3,4j\n", r"line 2, column 2: '4j' is not a number"),
    (".csv", b"\xff\xfe1\x00,\x002\x00", "is not text in UTF-8"),
    (".csv", b"1,2\n3,\xff\n", "is not text in UTF-8"),
    (".parquet", b"PAR1", "is not a readable .parquet file"),
    (".parquet", npy(matrix()), "is not a readable .parquet file"),
]


@pytest.mark.parametrize(("suffix", "content", "message"), BAD)
def test_bad_files(tmp_path, suffix, content, message):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        load_paths(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_such_file(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_paths(path)
    path.mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder, but must be a file"):
        load_paths(path)
    path.rmdir()
    path.touch()
    with pytest.raises(ValueError, match="is empty"):
        load_paths(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        load_paths(path)


def test_parquet_of_other_things(tmp_path):
    import pyarrow
    import pyarrow.parquet

    for values, error, message in (
        (["a", "b"], TypeError, "column 'c' holds string, but must hold real numbers"),
        ([True, False], TypeError, "column 'c' holds bool"),
        ([1.0, None], ValueError, "column 'c' has missing values"),
    ):
        pyarrow.parquet.write_table(pyarrow.table({"c": values}), tmp_path / "x.parquet")
        with pytest.raises(error, match=message):
            load_paths(tmp_path / "x.parquet")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    (tmp_path / "x.npz").write_bytes(archive(x=npy(np.zeros((1000, 1000)))))
    assert (tmp_path / "x.npz").stat().st_size < 100_000
    monkeypatch.setattr(arrays, "available_memory", lambda: 1_000_000)
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(MemoryError):
        load_paths(tmp_path / "x.npz")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_damaged_files_raise_one_of_few_errors(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    save_paths(path, matrix())
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(whole)
        for position in random.integers(0, len(whole), random.integers(1, 4)):
            damaged[position] = random.integers(0, 256)
        path.write_bytes(bytes(damaged[: random.integers(1, len(whole) + 1)] if random.random() < 0.2 else damaged))
        try:
            x = load_paths(path)
            outcomes.add(x.ndim)
        except (ValueError, TypeError, MemoryError) as error:
            outcomes.add(type(error))
    assert {2, ValueError} <= outcomes


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    import pickle

    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    (tmp_path / "x.npy").write_bytes(npy(np.ones((2, 2), object)))
    (tmp_path / "x.npz").write_bytes(archive(x=npy(np.ones((2, 2), object))))
    for name in ("x.npy", "x.npz"):
        for load in (load_paths, load_targets):
            with pytest.raises(TypeError):
                load(tmp_path / name)
