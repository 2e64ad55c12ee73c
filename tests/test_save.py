"""Files that are written: what goes in comes out, and no write is ever seen half done."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fastlam import data
from fastlam.data import atomic_write, load_paths, new_npy, save_paths

SUFFIXES = (".npy", ".npz", ".csv", ".parquet")
EXTREMES = (0.1, -1e-30, 3.4e38, 1.2345678901234567)


def matrix(dtype: str = "float64") -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(dtype)
    x[0, :4] = EXTREMES
    return x


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


def test_npy_is_read_by_numpy_in_c_order(tmp_path):
    save_paths(tmp_path / "x.npy", matrix(), "paths-by-times")
    x = np.load(tmp_path / "x.npy")
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x, matrix().T)


def test_save_in_slabs(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "SLAB", 12)
    save_paths(tmp_path / "x.npy", matrix(), "paths-by-times")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), matrix().T)


def test_npz_with_more(tmp_path):
    save_paths(tmp_path / "x.npz", matrix(), times=np.arange(4.0))
    np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["times"], np.arange(4.0))
    with pytest.raises(ValueError, match=r"only a \.npz holds further arrays"):
        save_paths(tmp_path / "x.npy", matrix(), times=np.arange(4.0))


@pytest.mark.parametrize("name", ["file", "allow_pickle"])
def test_npz_with_a_name_that_numpy_takes_for_itself(tmp_path, name):
    with pytest.raises(ValueError, match=f"save_paths: further arrays must not be named .*, but one is {name}"):
        save_paths(tmp_path / "x.npz", matrix(), **{name: np.arange(4.0)})
    assert not any(tmp_path.iterdir())


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


MASKED = np.ma.masked_array(np.ones((2, 2)), mask=[[True, False], [False, False]])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (MASKED, "save_paths: x is a masked array, whose mask would be lost"),
        (np.ones((2, 2), object), "save_paths: x has dtype object, which would be pickled"),
        (
            [[1.0, 2.0]],
            "save_paths: x must be a NumPy array, a torch tensor or a CuPy array, but is list: pass np.asarray",
        ),
        (torch.ones(2, 2, dtype=torch.float16), "save_paths: x has dtype float16"),
    ],
    ids=["masked", "object", "list", "half"],
)
def test_save_refuses_what_a_file_would_lose(tmp_path, suffix, bad, message):
    with pytest.raises(TypeError, match=message):
        save_paths(tmp_path / f"x{suffix}", bad)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (MASKED, "save_paths: times is a masked array, whose mask would be lost"),
        (np.array([1.0, None]), "save_paths: times has dtype object, which would be pickled"),
        (np.zeros(2, [("a", object)]), "save_paths: times has dtype .*, which would be pickled"),
        ([1.0, 2.0], "save_paths: times must be a NumPy array, a torch tensor or a CuPy array, but is list"),
    ],
    ids=["masked", "object", "field", "list"],
)
def test_save_refuses_further_arrays_alike(tmp_path, bad, message):
    with pytest.raises(TypeError, match=message):
        save_paths(tmp_path / "x.npz", matrix(), times=bad)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("layout", data.LAYOUTS)
def test_tensors_are_saved_as_arrays_are(tmp_path, suffix, layout):
    x = torch.from_numpy(matrix()).requires_grad_()
    more = {"times": torch.arange(4)} if suffix == ".npz" else {}
    save_paths(tmp_path / f"x{suffix}", x, layout, **more)
    np.testing.assert_array_equal(load_paths(tmp_path / f"x{suffix}", layout), matrix())
    if more:
        np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["times"], np.arange(4))


def test_tensors_whose_sign_is_pending_and_that_have_no_values(tmp_path):
    negated = torch.full((2, 2), 1j, dtype=torch.complex128).conj().imag
    assert negated.is_neg()
    save_paths(tmp_path / "x.npy", negated)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), -np.ones((2, 2)))
    with pytest.raises(ValueError, match="save_paths: x is on meta"):
        save_paths(tmp_path / "x.npy", torch.ones(2, 2, device="meta"))


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u65e5", "\U0001f600", "\udcff"], ids=[1, 2, 3, 4, "not-utf8"])
def test_names_as_long_as_they_can_be(tmp_path, letter):
    size = len(os.fsencode(letter))
    name = letter * ((255 - len(".npy")) // size) + "b" * ((255 - len(".npy")) % size) + ".npy"
    assert len(os.fsencode(name)) == 255
    save_paths(tmp_path / name, matrix())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    np.testing.assert_array_equal(load_paths(tmp_path / name), matrix())


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
