"""Profile kernels on a card: `python -m bench.profile_gpu --kernel simulate_mean --n 4194304 --m 256`.

Prints, for every kernel that a public call launches: its time by CUDA events (median of many calls, the cache
overwritten before each), G normals/s and GB/s with their share of Philox alone and of copying, what a launch costs on
the host, registers, shared memory, spills, the warps that a multiprocessor holds. NVTX ranges bear the kernels' names:

    ncu --nvtx --nvtx-include "simulate_mean/" python -m bench.profile_gpu --kernel simulate_mean --calls 1
    nsys profile -t cuda,nvtx -o simulate_mean python -m bench.profile_gpu --kernel simulate_mean
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.card import pieces


def arguments() -> argparse.ArgumentParser:
    """What can be asked for; the names of calls and processes are checked when torch is known to be there."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.profile_gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", nargs="+", default=["all"], help="names of calls, or all (unknown: lists them)")
    parser.add_argument("--process", default="Brownian", help="the diffusion (unknown: lists them)")
    parser.add_argument("--n", type=int, default=2**22, help="paths (default 2**22)")
    parser.add_argument("--m", type=int, default=256, help="times (default 256)")
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "float64"])
    parser.add_argument("--calls", type=int, default=0, help="calls to time; by default as many as 0.6 s have")
    parser.add_argument("--json", type=Path, help="also write what is printed as JSON")
    parser.add_argument("--seconds", type=float, default=600.0, help="calls that would begin later are left out")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = arguments()
    asked = parser.parse_args(argv)
    _, missing = pieces.look()
    for piece in missing:
        if piece.needed:
            print(f"profile_gpu: {pieces.line(piece)}", file=sys.stderr)
    if any(piece.needed for piece in missing):
        return 2
    from bench.card.calls import CALLS  # now: torch is there
    from bench.processes import PROCESSES

    names = list(CALLS) if asked.kernel == ["all"] else asked.kernel
    for what, given, known in (("kernel", names, CALLS), ("process", [asked.process], PROCESSES)):
        for name in given:
            if name not in known:
                parser.error(f"argument --{what}: {name!r} is none of {', '.join(known)}")
    for what in ("n", "m"):
        if getattr(asked, what) < 1:
            parser.error(f"argument --{what}: must be at least 1, but is {getattr(asked, what)}")
    return profile(names, asked)


def profile(names: list[str], asked: argparse.Namespace) -> int:
    """Profile each call in each dtype, and write what was found after each."""
    from bench.card import report, whole
    from bench.card.place import on_card
    from bench.card.profiled import ceilings, profiled

    end = time.monotonic() + asked.seconds
    place = on_card()
    document: dict[str, Any] = {"limits": ceilings(place), "calls": []}
    code = 0
    for dtype in asked.dtype:
        for name in names:
            if time.monotonic() > end:
                print(f"{name} {dtype}: left out: the {asked.seconds:.0f} s of the profile were used up")
                continue
            place.clear()
            try:
                call = profiled(place, name, asked.process, asked.n, asked.m, dtype, asked.calls, document["limits"])
            except Exception as error:  # the other calls are still wanted
                code = 1
                print(f"{name} {dtype}: failed: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            document["calls"].append(call)
            if asked.json:
                whole.write(asked.json, json.dumps(document))
    print(report.profile(document))
    return code


if __name__ == "__main__":
    raise SystemExit(main())
