"""Files: what goes in comes out, what cannot be trusted is refused, and no write is ever seen half done."""

import io
import os
import signal
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fastlam import arrays, data
from fastlam.data import atomic_write, load_paths, load_targets, new_npy, save_paths

SUFFIXES = (".npy", ".npz", ".csv", ".parquet")
EXTREMES = (0.1, -1e-30, 3.4e38, 1.2345678901234567)


def matrix(dtype: str = "float64") -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(dtype)
    x[0, :4] = EXTREMES
    return x


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(arrays, "available_memory", lambda: 100)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("layout", data.LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_round_trip(tmp_path, suffix, layout, dtype, order):
    x = np.asarray(matrix(dtype), order=order)
    x[3, 5] = np.nan  # flows through, as in the reductions
    x[3, 4] = -np.inf
    save_paths(tmp_path / f"x{suffix}", x, layout)
    back = load_paths(tmp_path / f"x{suffix}", layout)
    assert back.dtype == ("float64" if suffix == ".csv" else dtype)
    np.testing.assert_array_equal(back.astype(dtype), x)
    other = load_paths(tmp_path / f"x{suffix}", next(name for name in data.LAYOUTS if name != layout))
    np.testing.assert_array_equal(other.astype(dtype), x.T)


def test_npy_is_mapped_and_read_only(tmp_path):
    save_paths(tmp_path / "x.npy", matrix())
    for layout in data.LAYOUTS:
        x = load_paths(tmp_path / "x.npy", layout)
        assert isinstance(x, np.memmap)
        assert not x.flags.writeable


def test_npy_is_read_by_numpy_in_c_order(tmp_path):
    save_paths(tmp_path / "x.npy", matrix(), "paths-by-times")
    x = np.load(tmp_path / "x.npy")
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x, matrix().T)


def test_save_in_slabs(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "SLAB", 12)
    save_paths(tmp_path / "x.npy", matrix(), "paths-by-times")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), matrix().T)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "int32", "float16", ">f4", ">f8", ">i2"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_other_real_numbers(tmp_path, suffix, dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    (np.save if suffix == ".npy" else np.savez)(tmp_path / f"x{suffix}", x)
    back = load_paths(tmp_path / f"x{suffix}")
    assert back.dtype.name == ("float32" if dtype == ">f4" else "float64")
    np.testing.assert_array_equal(back, np.arange(6).reshape(2, 3))


def test_fortran_order(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(matrix()))
    np.testing.assert_array_equal(load_paths(tmp_path / "x.npy"), matrix())


def test_npz_by_name(tmp_path):
    np.savez(tmp_path / "both.npz", x=matrix(), k=np.arange(4.0), more=np.ones(3))
    np.testing.assert_array_equal(load_paths(tmp_path / "both.npz"), matrix())
    np.testing.assert_array_equal(load_targets(tmp_path / "both.npz"), np.arange(4.0))
    np.savez_compressed(tmp_path / "one.npz", whatever=matrix())
    np.testing.assert_array_equal(load_paths(tmp_path / "one.npz"), matrix())


def test_npz_with_more(tmp_path):
    save_paths(tmp_path / "x.npz", matrix(), times=np.arange(4.0))
    np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["times"], np.arange(4.0))
    with pytest.raises(ValueError, match=r"only a \.npz holds further arrays"):
        save_paths(tmp_path / "x.npy", matrix(), times=np.arange(4.0))


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "a,b\n1,2\n3,4",
        "\n\n a , b \n\n1 , 2\n\n3,4\n\n",
        "\ufeff1,2\r\n3,4\r\n",
        "\ufeffa,b\r\n1,2\r\n3,4\r\n",
        "1e0,+2.\n0.3E1,4",
    ],
)
def test_csv_dialects(tmp_path, text):
    (tmp_path / "x.csv").write_bytes(text.encode())
    np.testing.assert_array_equal(load_paths(tmp_path / "x.csv"), [[1, 2], [3, 4]])


def test_parquet_columns(tmp_path):
    import pyarrow
    import pyarrow.parquet

    columns = {"whole": pyarrow.array([1, 2], "int32"), "half": pyarrow.array(np.array([3, 4], np.float16))}
    table = pyarrow.table(columns | {"index": pyarrow.array([7, 8])})
    pandas = b'{"index_columns": ["index"], "column_indexes": [], "columns": [], "pandas_version": "2.0"}'
    path = tmp_path / "seed=7" / "x.parquet"  # whose folder's name is no column
    path.parent.mkdir()
    pyarrow.parquet.write_table(table.replace_schema_metadata({b"pandas": pandas}), path)
    np.testing.assert_array_equal(load_paths(path), [[1, 3], [2, 4]])
    pyarrow.parquet.write_table(table, path)
    np.testing.assert_array_equal(load_paths(path), [[1, 3, 7], [2, 4, 8]])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_paths_are_contiguous_where_the_reader_can_choose(tmp_path, suffix):
    """A reduction reads rows in place: a table with a path a row is turned while it is read."""
    if suffix == ".parquet":
        save_paths(tmp_path / "x.parquet", matrix(), "paths-by-times")
        assert load_paths(tmp_path / "x.parquet", "paths-by-times").flags.c_contiguous
    save_paths(tmp_path / f"x{suffix}", matrix())
    assert load_paths(tmp_path / f"x{suffix}").flags.c_contiguous


@pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3), (1, 3, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_targets(tmp_path, shape, dtype):
    np.save(tmp_path / "k.npy", np.arange(3, dtype=dtype).reshape(shape))
    k = load_targets(tmp_path / "k.npy")
    assert k.dtype == np.float64
    np.testing.assert_array_equal(k, [0, 1, 2])


@pytest.mark.parametrize("text", ["k\n1\n2\n", "1,2\n", "1\n2"])
def test_targets_in_csv(tmp_path, text):
    (tmp_path / "k.csv").write_text(text)
    np.testing.assert_array_equal(load_targets(tmp_path / "k.csv"), [1, 2])


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


def test_unknown_names(tmp_path):
    for bad in ("x.txt", "x", "x.npy.gz"):
        with pytest.raises(ValueError, match=r"must have one of \.npy, \.npz, \.csv, \.parquet"):
            load_paths(tmp_path / bad)
        with pytest.raises(ValueError, match="must have one of"):
            save_paths(tmp_path / bad, matrix())
    with pytest.raises(ValueError, match="layout must be times-by-paths or paths-by-times, but is 'rows'"):
        load_paths(tmp_path / "x.npy", "rows")
    with pytest.raises(ValueError, match="layout must be"):
        save_paths(tmp_path / "x.npy", matrix(), "rows")
    assert not any(tmp_path.iterdir())


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


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_more_than_memory_is_refused(tmp_path, suffix, little_memory):
    save_paths(tmp_path / f"x{suffix}", matrix())
    with pytest.raises(MemoryError, match=r"x\..* needs .* write it as float32 or float64 \.npy"):
        load_paths(tmp_path / f"x{suffix}")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    (tmp_path / "x.npz").write_bytes(archive(x=npy(np.zeros((1000, 1000)))))
    assert (tmp_path / "x.npz").stat().st_size < 100_000
    monkeypatch.setattr(arrays, "available_memory", lambda: 1_000_000)
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(MemoryError):
        load_paths(tmp_path / "x.npz")


def test_npy_needs_no_memory_but_for_conversion(tmp_path, little_memory):
    save_paths(tmp_path / "x.npy", matrix())
    assert load_paths(tmp_path / "x.npy").shape == (4, 6)
    np.save(tmp_path / "i.npy", np.ones((4, 6), int))
    with pytest.raises(MemoryError, match="float64 from int64"):
        load_paths(tmp_path / "i.npy")


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


def test_without_pyarrow(tmp_path, monkeypatch):
    save_paths(tmp_path / "x.parquet", matrix())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'needs pyarrow: pip install "fastlam\[data\]"'):
        load_paths(tmp_path / "x.parquet")
    with pytest.raises(ImportError, match="needs pyarrow"):
        save_paths(tmp_path / "y.parquet", matrix())
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]
    save_paths(tmp_path / "x.csv", matrix())
    np.testing.assert_array_equal(load_paths(tmp_path / "x.csv"), matrix())


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((0, 3)), np.ones((2, 2), int), np.ones((2, 2), complex)])
def test_save_refuses(tmp_path, bad):
    with pytest.raises((ValueError, TypeError), match="save_paths: x"):
        save_paths(tmp_path / "x.npy", bad)
    assert not any(tmp_path.iterdir())


def test_atomic_write_replaces_or_leaves(tmp_path):
    path = tmp_path / "fit.json"
    path.write_text("old")
    path.chmod(0o640)

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            assert temporary.parent == tmp_path
            assert temporary.suffix == ".json"
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [file.name for file in tmp_path.iterdir()] == ["fit.json"]
    assert path.read_text() == "old"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [file.name for file in tmp_path.iterdir()] == ["fit.json"]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    with atomic_write(tmp_path / "new") as temporary:
        temporary.write_text("")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_atomic_write_follows_links(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/file")
    with atomic_write(tmp_path / "link") as temporary:
        temporary.write_text("text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_text() == "text"


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (os.devnull, OSError, "not a regular file"),
        ("/", IsADirectoryError, "is a folder"),
        ("/no/such/folder/file", FileNotFoundError, "there is no folder /no/such/folder"),
    ],
)
def test_atomic_write_refuses(path, error, message):
    with pytest.raises(error, match=message), atomic_write(path):
        pytest.fail("entered")


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(PermissionError, match="no permission to write"), atomic_write(tmp_path / "file"):
        pytest.fail("entered")


def test_a_disk_without_room_is_refused(tmp_path):
    with (
        pytest.raises(OSError, match="GB are free on its disk"),
        new_npy(tmp_path / "x.npy", (2**30, 2**30), "float64"),
    ):
        pytest.fail("entered")
    assert not any(tmp_path.iterdir())


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from fastlam.data import new_npy
with new_npy(sys.argv[1], (1000, 1000), "float64") as put:
    put(np.ones((500, 1000)), 0, 0)
    print("half", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_killed_writer_leaves_the_old_file(tmp_path, how, old):
    path = tmp_path / "x.npy"
    if old is not None:
        path.write_bytes(old)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(how)
        assert process.wait() != 0
    assert (path.read_bytes() if path.exists() else None) == old
    if how == signal.SIGINT:
        assert [file.name for file in tmp_path.iterdir()] == ([] if old is None else ["x.npy"])


def test_failing_writers_of_every_format_leave_nothing(tmp_path, monkeypatch):
    def fail(path: Path) -> None:
        raise OSError("the disk is on fire")

    monkeypatch.setattr(data, "_sync", fail)
    for suffix in SUFFIXES:
        with pytest.raises(OSError, match="on fire"):
            save_paths(tmp_path / f"x{suffix}", matrix())
    assert not any(tmp_path.iterdir())
