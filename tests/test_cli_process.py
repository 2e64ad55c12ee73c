"""The command as a process: signals, pipes and terminals."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = ("--n-paths", "200", "--n-times", "50", "--epochs", "3")


FASTLAM = (sys.executable, "-m", "fastlam")


def start(*arguments: object, cwd: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*FASTLAM, *map(str, arguments)], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_as_a_program(tmp_path):
    with start("fit", *SMALL, "--lr", 0.1, cwd=tmp_path) as process:
        stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert re.search(r"true lam +0\.25\s", stdout)
    with start("fit", "--paths", "x.npy", "--targets", "k.npy", cwd=tmp_path) as process:
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout, stderr) == (1, "", "fastlam fit: error: x.npy: no such file\n")
    with start("fit", "--dt", "0", "--debug", cwd=tmp_path) as process:
        stderr = process.communicate()[1]
    assert process.returncode == 1
    assert stderr.startswith("Traceback")


def wait_for_temporary(folder: Path, process: subprocess.Popen) -> None:
    """Until the command has begun to write; the suite's time limit ends a wait in vain."""
    while not any(path.name.endswith(".tmp.npy") and path.stat().st_size for path in folder.iterdir()):
        assert process.poll() is None, process.communicate()


@pytest.mark.parametrize(
    ("how", "code", "line"),
    [
        (signal.SIGINT, 130, "fastlam simulate: interrupted\n"),
        (signal.SIGTERM, 143, ""),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_a_signal_while_simulate_writes(tmp_path, how, code, line):
    (tmp_path / "x.npy").write_text("old")
    # Far more than is written before the signal comes: 1.6 GB.
    with start("simulate", "--out", "x.npy", "--n-paths", 400_000, "--n-times", 1000, cwd=tmp_path) as process:
        wait_for_temporary(tmp_path, process)
        process.send_signal(how)
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout, stderr) == (code, "", line)
    assert (tmp_path / "x.npy").read_text() == "old"
    rest = [path for path in tmp_path.iterdir() if path.name != "x.npy"]
    assert bool(rest) == (how == signal.SIGKILL)
    for path in rest:
        path.unlink()


def test_a_reader_that_leaves_early(tmp_path):
    with start("info", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        stderr = process.stderr.read()
    assert (process.returncode, stderr) == (1, "")


def test_a_stdout_closed_by_the_shell(tmp_path):
    line = f"{shlex.join(FASTLAM)} simulate --n-paths 20 --n-times 10 --out x.npy >&-"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "fastlam simulate: error: stdout is closed: nothing could be printed\n"
    assert (tmp_path / "x.npy").stat().st_size > 4 * 200


def test_the_progress_bar(tmp_path):
    """On a terminal, and only there."""
    import pty

    leader, follower = pty.openpty()
    with subprocess.Popen(
        [*FASTLAM, "fit", *SMALL], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=follower
    ) as process:
        os.close(follower)
        shown = b""
        while chunk := read(leader):
            shown += chunk
    os.close(leader)
    assert process.returncode == 0
    assert b"train" in shown
    assert b"3/3" in shown


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's way to say that the other side of a terminal is closed
        return b""
