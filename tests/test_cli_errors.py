"""Every failure of the command line is one line and an exit code, and leaves files as they were."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastlam

SMALL = ("--n-paths", "200", "--n-times", "50", "--epochs", "3")


@pytest.fixture
def files(tmp_path):
    """Good and bad files to name in a command."""
    np.save(tmp_path / "x.npy", np.ones((4, 6)))
    np.save(tmp_path / "k.npy", np.ones(4))
    np.save(tmp_path / "k6.npy", np.ones(6))
    np.save(tmp_path / "k9.npy", np.ones(9))
    np.save(tmp_path / "nan.npy", np.array([1, 1, np.nan, 1]))
    np.save(tmp_path / "xnan.npy", np.full((4, 6), np.nan))
    np.save(tmp_path / "zero.npy", np.zeros((4, 6)))
    (tmp_path / "x.csv").write_text("1,2\n3,four\n")
    (tmp_path / "x.txt").write_text("1,2\n")
    (tmp_path / "empty.npy").touch()
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "fit.png").mkdir()


READ = ("fit", "--paths", "x.npy", "--targets", "k.npy")


BAD = [
    (["fit", "--epochs", "x"], 2, "Invalid value for '--epochs'"),
    (["fit", "--epoch", "3"], 2, "No such option: --epoch"),
    (["fit", "extra"], 2, "extra"),
    (["nothing"], 2, "No such command 'nothing'"),
    (["simulate"], 2, "Missing option '--out'"),
    (["fit", "--n-paths", "0"], 2, "n_paths must be at least 1"),
    (["fit", "--n-times", "-3"], 2, "--n-times must be at least 1, but is -3"),
    (["fit", "--threads", "0"], 2, "--threads must be at least 1, but is 0"),
    (["fit", "--threads", "1025"], 2, "--threads must be at most 1024, but is 1025"),
    (["simulate", "--threads", "100000", "--out", "y.npy"], 2, "--threads must be at most 1024, but is 100000"),
    (["fit", "--dtype", "float16"], 2, "float16"),
    (["fit", "--layout", "rows", "--paths", "x.npy"], 2, "rows"),
    (["fit", "--paths", "x.npy"], 2, "--paths needs --targets"),
    (["fit", "--targets", "k.npy"], 2, "--targets needs --paths"),
    (["fit", "--layout", "paths-by-times"], 2, "--layout needs --paths"),
    ([*READ, "--true-lam", "0.25"], 2, "--true-lam is about simulated paths, but --paths reads them from a file"),
    ([*READ, "--n-paths", "20000"], 2, "--n-paths is about simulated paths"),
    ([*READ, "--noise", "0"], 2, "--noise is about simulated paths"),
    ([*READ, "--one-pass"], 2, "--one-pass is about simulated paths"),
    (["fit", "--one-pass", "--n-paths", "0"], 2, "n_paths must be at least 1"),
    (["fit", "--one-pass", "--n-paths", str(10**13)], 2, "n_paths must be at least 1 and below"),
    (["fit", "--one-pass", "--noise", "-1", "--n-paths", "9"], 2, "--noise must be finite and at least 0"),
    (["fit", "--one-pass", "--true-lam", "nan", "--n-paths", "9"], 2, "--true-lam must be finite, but is nan"),
    (["fit", "--one-pass", "--true-lam", "1e30", "--x0", "1e15", "--n-paths", "9"], 2, "k[0] = inf"),
    (["fit", "--true-lam", "1e30", "--x0", "1e15", "--n-paths", "9"], 2, "k[0] = inf"),
    (["fit", "--dt", "0.1", "--horizon", "3"], 2, "--dt and --horizon both say where times are"),
    (["fit", "--dt", "0"], 2, "--dt must be finite and above 0, but is 0"),
    (["fit", "--dt", "1e308"], 2, "--dt must be at most 1.8e308 / --n-times, but is 1e308 with --n-times 1000"),
    (["fit", "--dt", "1/0"], 2, "--dt must be a number, but is '1/0'"),
    (["fit", "--dt", "fast"], 2, "--dt must be a number, but is 'fast'"),
    (["fit", "--horizon", "nan"], 2, "--horizon must be finite and above 0, but is nan"),
    (["fit", "--sigma", "-1"], 2, "sigma must be at least 0"),
    (["fit", "--mu", "inf"], 2, "mu must be finite"),
    (["fit", "--noise", "-1"], 2, "--noise must be finite and at least 0"),
    (["fit", "--true-lam", "nan"], 2, "--true-lam must be finite, but is nan"),
    (["fit", "--seed", "-1"], 2, "seed"),
    (["fit", "--lr", "fast"], 2, "--lr must be a number or auto, but is 'fast'"),
    (["fit", "--lr", "-1"], 2, "lr must be finite and above 0"),
    (["fit", "--optimizer", "magic"], 2, "optimizer must be one of"),
    (["fit", "--epochs", "0"], 2, "epochs must be at least 1"),
    (["fit", "--batch-size", "0"], 2, "batch_size must be at least 1"),
    (["fit", "--holdout", "1"], 2, "holdout must be at least 0 and below 1"),
    (["fit", "--n-paths", str(10**13)], 1, "simulate needs "),
    (["fit", "--n-times", str(10**13)], 1, "--n-times 10,000,000,000,000 needs "),
    (["fit", "--out", "x.npy"], 1, "--out x.npy must be a folder, but is a file"),
    (["fit", "--out", "x.npy/deeper"], 1, "Not a directory"),
    (["fit", "--out", "taken"], 1, "fit.png is a folder, but must be a file"),
    (["fit", "--paths", "x.txt", "--targets", "k.npy"], 2, "suffix '.txt', but must have one of .npy, .npz, .csv"),
    (["fit", "--paths", "none.npy", "--targets", "k.npy"], 1, "none.npy: no such file"),
    (["fit", "--paths", "folder.npy", "--targets", "k.npy"], 1, "folder.npy is a folder, but must be a file"),
    (["fit", "--paths", "empty.npy", "--targets", "k.npy"], 2, "empty.npy is empty"),
    (["fit", "--paths", "x.csv", "--targets", "k.npy"], 2, "x.csv, line 2, column 2: 'four' is not a number"),
    (["fit", "--paths", "x.npy", "--targets", "nan.npy"], 2, "nan.npy: targets must be finite, but k[2] = nan"),
    (["fit", "--paths", "xnan.npy", "--targets", "k.npy"], 2, "x must be finite, but row 0"),
    (["fit", "--paths", "zero.npy", "--targets", "k.npy"], 2, "x is zero at every training time"),
    (["fit", "--paths", "x.npy", "--targets", "k6.npy"], 2, "shape (6,), which must be one target for each time; "
     "--layout paths-by-times would fit"),
    (["fit", "--paths", "x.npy", "--targets", "k9.npy"], 2, "x.npy has shape (4, 6) as times by paths"),
    ([*READ, "--layout", "paths-by-times"], 2, "--layout times-by-paths would fit"),
    (["simulate", "--out", "x.txt"], 2, "suffix '.txt'"),
    (["simulate", "--out", "folder.npy"], 1, "folder.npy is a folder, but must be a file"),
    (["simulate", "--out", "no/x.npy"], 1, "there is no folder"),
    (["simulate", "--out", "y.npy", "--first-path", "-1"], 2, "first_path must be at least 0"),
    (["simulate", "--out", "y.npy", "--n-paths", "0"], 2, "--n-paths must be at least 1, but is 0"),
    (["simulate", "--out", "y.npy", "--n-times", "0"], 2, "--n-times must be at least 1, but is 0"),
    (["simulate", "--out", "y.npy", "--first-path", str(2**64 - 1)], 2, "--n-paths must be at most 2**64"),
    (["simulate", "--out", "y.npy", "--seed", str(2**64)], 2, "seed must be at least 0 and below 2**64"),
    (["simulate", "--out", "y.npy", "--n-paths", str(10**13)], 1, "GB are free on its disk"),
    (["simulate", "--out", "y.npy", "--n-times", str(10**13)], 1, "take fewer times"),
    (["simulate", "--out", "y.csv", "--n-paths", str(10**13)], 1, "simulate needs "),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message"), BAD, ids=lambda value: " ".join(value)[:60] if type(value) is list else ""
)
def test_a_failure_is_one_line(fastlam_, tmp_path, files, arguments, code, message):
    before = sorted(tmp_path.rglob("*"))
    result, stdout, stderr = fastlam_(*arguments)
    assert (result, stdout) == (code, "")
    name = "fastlam" if arguments == ["nothing"] else f"fastlam {arguments[0]}"
    assert stderr.startswith(f"{name}: error: ")
    assert message in stderr
    assert stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("one_pass", [[], ["--one-pass"]])
@pytest.mark.parametrize(
    "bad",
    [["--optimizer", "magic"], ["--lr", "-1"], ["--lam0", "nan"], ["--epochs", "0"], ["--batch-size", "0"],
     ["--holdout", "1"], ["--seed", "-1"], ["--noise", "-1"], ["--true-lam", "nan"]],
)  # fmt: skip
def test_bad_training_is_refused_before_anything_is_simulated(fastlam_, monkeypatch, bad, one_pass):
    from fastlam import fitted

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("paths were simulated")

    monkeypatch.setattr(fastlam, "simulate", fail)
    monkeypatch.setattr(fitted, "square_means", fail)
    code, _, stderr = fastlam_("fit", *SMALL, *one_pass, *bad)
    assert (code, "must be" in stderr) == (2, True)


@pytest.mark.parametrize("arguments", [["--debug", "fit", "--dt", "0"], ["fit", "--dt", "0", "--debug"]])
def test_debug_raises(fastlam_, arguments):
    with pytest.raises(ValueError, match="--dt must be finite"):
        fastlam_(*arguments)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "fastlam fit: interrupted"),
        (MemoryError(), 1, "fastlam fit: error: out of memory"),
        (ZeroDivisionError("a\n  b"), 1, "fastlam fit: error: ZeroDivisionError: a b (--debug shows the trace)"),
        (KeyError("a"), 1, "fastlam fit: error: KeyError: 'a' (--debug shows the trace)"),
        (
            OSError(28, "No space left on device", "fit.json"),
            1,
            "fastlam fit: error: fit.json: No space left on device",
        ),
        (ImportError("x is missing"), 1, "fastlam fit: error: x is missing"),
        (RuntimeError("y"), 1, "fastlam fit: error: RuntimeError: y (--debug shows the trace)"),
    ],
)
def test_what_the_library_raises(fastlam_, monkeypatch, error, code, line):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(fastlam, "simulate", fail)
    assert fastlam_("fit", *SMALL) == (code, "", line + "\n")
    with pytest.raises(type(error)):
        fastlam_("fit", *SMALL, "--debug")


def test_a_failed_write_leaves_the_old_files(fastlam_, tmp_path, monkeypatch):
    (tmp_path / "fit.json").write_text("old")
    (tmp_path / "fit.png").write_text("old")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    code, _, stderr = fastlam_("fit", *SMALL, "--lr", 0.1)
    assert (code, stderr) == (130, "fastlam fit: interrupted\n")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"fit.json": "old", "fit.png": "old"}


def test_without_typer(fastlam_, monkeypatch):
    for missing in ("typer", "rich"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            code, _, stderr = fastlam_("fit")
        assert (code, stderr) == (
            1,
            f'fastlam fit: error: the command line needs {missing}: pip install "fastlam[cli]"\n',
        )


def test_without_matplotlib_nothing_is_started():
    code = "import sys; sys.modules['matplotlib'] = None; from fastlam.cli import main; main(['fit'])"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == 'fastlam fit: error: pictures need matplotlib: pip install "fastlam[cli]"\n'


def test_without_pyarrow(fastlam_, monkeypatch, files):
    Path("x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, stderr = fastlam_("fit", "--paths", "x.parquet", "--targets", "k.npy")
    assert (code, stderr) == (1, 'fastlam fit: error: a .parquet file needs pyarrow: pip install "fastlam[data]"\n')
