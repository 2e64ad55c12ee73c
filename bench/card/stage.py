"""A stage of `make gpu`: a program of its own, so that neither a fault nor a hang of one takes the others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

GRACE = 8.0  # seconds to write what it has, after the interrupt


class Ended(NamedTuple):
    """Exit code, seconds, and whether it was stopped because its time was over."""

    code: int
    seconds: float
    late: bool


def run(command: Sequence[str], limit: float, env: Mapping[str, str], folder: Path, log: Path | None = None) -> Ended:
    """Run a program for at most `limit` seconds: then it is interrupted as by Ctrl-C, and killed if that does not do.

    What it prints goes to the terminal, or to the file `log`. What it has started ends with it.
    """
    start = time.monotonic()
    late = False
    with contextlib.ExitStack() as stack:
        out = None if log is None else stack.enter_context(log.open("w"))
        process = subprocess.Popen(
            list(command), env=dict(env), cwd=folder, stdout=out, stderr=subprocess.STDOUT if out else None,
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            late = True
            _signal(process, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        finally:
            _signal(process, signal.SIGKILL)
            code = process.wait()
    return Ended(code, time.monotonic() - start, late)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To all of the session that the process leads; it may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
