"""The command `fastlam`: every failure becomes one line and an exit code. The commands themselves: commands.py."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any

COMMANDS = ("fit", "calibrate", "simulate", "info")
NEEDS = ("typer", "rich", "click")  # click: what typer stood on before 0.25
BAD_INPUT, FAILED, INTERRUPTED, TERMINATED = 2, 1, 130, 143  # exit codes


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `fastlam ARGUMENTS` (by default those of the process) and exit.

    Exit codes: 0 done, 1 failed, 2 bad arguments or data, 130 interrupted by Ctrl-C, 143 terminated.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that unfinished files are removed
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run `fastlam ARGUMENTS` and return its exit code; with `--debug` among them, raise what went wrong.

    Examples
    --------
    >>> run(["--version"])  # doctest: +ELLIPSIS
    fastlam ...
    0
    """
    name = next((f"fastlam {word}" for word in arguments if word in COMMANDS), "fastlam")

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> None:
        print(f"{name}: warning: {_one_line(message)}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = show
            return _invoke(arguments)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in arguments:
            raise
        line, code = _describe(error)
        print(f"{name}: {line}", file=sys.stderr)
        return code


def _invoke(arguments: Sequence[str]) -> int:
    try:
        import rich  # noqa: F401
        import typer
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in NEEDS:
            raise
        raise ImportError(f'the command line needs {error.name}: pip install "fastlam[cli]"') from None
    from fastlam.commands import app

    command = typer.main.get_command(app)
    try:
        with command.make_context("fastlam", list(arguments)) as context:
            command.invoke(context)
        code = 0
    except typer.Exit as done:
        code = done.exit_code
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()
    if sys.stdout is None:  # Python's way to say that it was closed before the start: print says nothing
        raise OSError("stdout is closed: nothing could be printed")
    return code


def _describe(error: BaseException) -> tuple[str, int]:
    """The line that says what went wrong, and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if hasattr(error, "format_message"):  # typer's own: a bad option
        return f"error: {_one_line(error.format_message())} (--help lists the options)", BAD_INPUT
    if isinstance(error, OSError) and error.filename is not None:
        return f"error: {error.filename}: {error.strerror}", FAILED
    if isinstance(error, UnicodeEncodeError):  # of print: what goes to files is UTF-8
        letter = ascii(error.object[error.start])
        remedy = "PYTHONIOENCODING=:backslashreplace would escape it"
        return f"error: stdout cannot show {letter} in {error.encoding}: {remedy}", FAILED
    if isinstance(error, (ValueError, TypeError)):
        return f"error: {_one_line(error)}", BAD_INPUT
    if isinstance(error, (OSError, ImportError, MemoryError, FloatingPointError)):
        return f"error: {_one_line(error) or 'out of memory'}", FAILED
    return f"error: {type(error).__name__}: {_one_line(error)} (--debug shows the trace)", FAILED


def _one_line(message: object) -> str:
    return " ".join(str(message).split())
