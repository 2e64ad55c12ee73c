"""compute-sanitizer over a tiny run of every kind of kernel: memory, and races in shared memory."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from bench.card.stage import Ended

TOOL = "compute-sanitizer"
PLACES = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/cuda/bin")
TOOLS = ("memcheck", "racecheck")
FOUND = 99  # the exit code by which it says that it has found something
# torch hands out parts of large blocks: without that, what lies beyond an array is nobody's, and seen.
ENVIRONMENT = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


class Verdict(NamedTuple):
    """What to say of one of its tools, and whether it is a fault of ours."""

    line: str
    fault: bool


def tool() -> str | None:
    """Where it is."""
    return shutil.which(TOOL) or next((place for name in PLACES if (place := shutil.which(TOOL, path=name))), None)


def command(place: str, what: str) -> list[str]:
    """It watches what kernels do; torch asks the driver things that it refuses, and those are no errors of ours."""
    options = ["--tool", what, "--error-exitcode", str(FOUND), "--report-api-errors", "no"]
    return [place, *options, sys.executable, "-m", "bench.card.sanitize"]


def verdict(what: str, ended: Ended, log: Path) -> Verdict:
    """Clean, found something, or did not run: then its last line says why."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "it printed nothing"
    if ended.late:
        return Verdict(f"{what}: not finished in {ended.seconds:.0f} s: nothing is known", False)
    if ended.code == 0:
        return Verdict(f"{what}: clean ({last.strip('= ')})", False)
    if ended.code == FOUND:
        told = next((line for line in lines if "Error" in line or "Invalid" in line or "hazard" in line), last)
        return Verdict(f"{what}: found errors: {told.strip('= ')}", True)
    return Verdict(f"{what}: did not run here (exit code {ended.code}): {last}", False)
