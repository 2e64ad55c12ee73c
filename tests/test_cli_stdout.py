"""A stdout that cannot take what is said: the work is done all the same, one line says so, and the exit code is 1."""

import io
import sys
from pathlib import Path

import pytest

from fastlam import cli

FIT = ("fit", "--n-paths", "20", "--n-times", "10", "--epochs", "1")
FITTED = ["fit.json", "fit.png"]
CLOSED = "stdout is closed: nothing could be printed"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run the command with a given stdout; return its exit code, what stdout took, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(stdout, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stdout)
            code = cli.run(arguments)
        return code, capsys.readouterr().err

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.stat().st_size)


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (FIT, FITTED),
        (("simulate", "--n-paths", "20", "--n-times", "10", "--out", "x.npy"), ["x.npy"]),
        (("info",), []),
        (("fit", "--help"), []),
    ],
    ids=["fit", "simulate", "info", "help"],
)
def test_closed(run, tmp_path, arguments, files):
    """None is what Python has for a stdout that was closed before it began."""
    assert run(None, *arguments) == (1, f"fastlam {arguments[0]}: error: {CLOSED}\n")
    assert names(tmp_path) == files


def test_closed_does_not_hide_what_was_wrong(run):
    assert run(None, "fit", "--dt", "0") == (2, "fastlam fit: error: --dt must be finite and above 0, but is 0\n")


@pytest.mark.parametrize(("arguments", "files"), [(FIT, FITTED), (("info",), [])], ids=["fit", "info"])
def test_full(run, tmp_path, arguments, files):
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "w") as full:  # again when it is closed
        assert run(full, *arguments) == (1, f"fastlam {arguments[0]}: error: [Errno 28] No space left on device\n")
    assert names(tmp_path) == files


@pytest.mark.parametrize(
    ("letter", "encoding", "shown"),
    [("\u00e9", "ascii", r"'\xe9' in ascii"), ("\udcff", "utf-8", r"'\udcff' in utf-8")],
    ids=["ascii", "not-utf8"],
)
def test_without_a_letter(run, tmp_path, letter, encoding, shown):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding)
    line = f"stdout cannot show {shown}: PYTHONIOENCODING=:backslashreplace would escape it"
    assert run(stdout, *FIT, "--out", letter) == (1, f"fastlam fit: error: {line}\n")
    assert b"trained lam" in stdout.buffer.getvalue()
    assert names(tmp_path / letter) == FITTED
    assert run(io.TextIOWrapper(io.BytesIO(), encoding, "backslashreplace"), *FIT, "--out", letter) == (0, "")
