"""`make gpu`: on a machine with an NVIDIA GPU, its versions, the tests marked gpu, benchmarks, profile and sanitizer.

It needs no installation of fastlam and no network, takes less than eight minutes, and leaves bench/results/<card>.json
and .md. The exit code is 0 where every test has passed, none was skipped but those for a second GPU, and every answer
was right; a speed that is not reached is no failure. It is 2 where something is missing that nothing runs without.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.card import machine, outcome, pieces, sanitizer, stage

TOTAL = 460.0  # seconds: of the eight minutes, what is left is for stages that are slow to stop
# Seconds after which each is stopped. All together are more: what the first leave unused is for the last.
LIMITS = {"tests": 240.0, "benchmarks": 150.0, "profile": 65.0, "sanitizer": 75.0}
SOONER = {"benchmarks": 25.0, "profile": 12.0}  # of that limit: what would begin then would not end in time
SHORTEST = 10.0  # seconds with which a stage is begun
RESULTS = machine.ROOT / "bench" / "results"
ENVIRONMENT = machine.ROOT / ".venv" / "bin" / "python"  # what make setup makes
Document = dict[str, Any]


class Run:
    """The stages of one run, its document, and the time that is left."""

    def __init__(
        self, env: dict[str, str], document: Document, folder: Path, end: float,
        now: Callable[[], float] = time.monotonic,
    ):  # fmt: skip
        self.env, self.document, self.folder, self.end, self.now = env, document, folder, end, now

    def limit(self, name: str) -> float:
        """Seconds that a stage may take: its own limit, or what is left of the whole."""
        return max(0.0, min(LIMITS[name], self.end - self.now()))

    def module(self, seconds: float, module: str, *options: str) -> stage.Ended:
        """Run a module of ours as a stage."""
        return stage.run([sys.executable, "-m", module, *options], seconds, self.env, machine.ROOT)

    def add(self, name: str, limit: float, seconds: float, said: str, faults: list[str]) -> None:
        """Note what a stage came to, and print it."""
        self.document["stages"].append({"name": name, "limit": limit, "seconds": seconds, "said": said})
        self.document["faults"] += [f"{name}: {fault}" for fault in faults]
        print(f"--- {name}: {seconds:.0f} s of {limit:.0f} s: {said}", flush=True)
        for fault in faults:
            print(f"--- {name}: {fault}", flush=True)


def tests(run: Run) -> None:
    """The tests marked gpu."""
    limit, report = run.limit("tests"), run.folder / "tests.xml"
    ended = stage.run(outcome.command(report), limit, run.env, machine.ROOT)
    found = outcome.outcome(report)
    faults = found.faults()
    if ended.late:
        faults.append(f"stopped after {ended.seconds:.0f} s: not all tests have run")
    elif ended.code and not faults:
        faults.append(f"pytest ended with {ended.code}")
    counts = f"{found.passed} passed, {len(found.failed)} failed, {len(found.skipped)} skipped"
    said = f"{counts}, {len(found.waiting)} wait for a second GPU"
    run.document["tests"] = found._asdict()
    run.add("tests", limit, ended.seconds, said, faults)


def benchmarks(run: Run) -> None:
    """All rows."""
    from bench.card import rows  # now: torch is known to be there

    limit, file = run.limit("benchmarks"), run.folder / "rows.json"
    options = "--out", str(file), "--seconds", str(limit - SOONER["benchmarks"])
    ended = run.module(limit, "bench.card.rows", *options)
    records = read(file, [])
    run.document["benchmarks"] = records
    faults = rows.faults(records) + broken(ended, records)
    timed = sum(record["state"] == "timed" for record in records)
    said = f"{timed} rows timed, {len(records) - timed} not{', stopped' if ended.late else ''}"
    run.add("benchmarks", limit, ended.seconds, said, faults)


def profile(run: Run) -> None:
    """Every call of the profile."""
    limit, file = run.limit("profile"), run.folder / "profile.json"
    options = "--dtype", "float32", "float64", "--json", str(file), "--seconds", str(limit - SOONER["profile"])
    ended = run.module(limit, "bench.profile_gpu", *options)
    run.document["profile"] = read(file, {})
    calls = run.document["profile"].get("calls", [])
    said = f"{len(calls)} calls{', stopped' if ended.late else ''}"
    run.add("profile", limit, ended.seconds, said, broken(ended, calls))


def sanitized(run: Run) -> None:
    """Memory and races, where the tool is."""
    limit, place = run.limit("sanitizer"), sanitizer.tool()
    if place is None:
        said = f"{sanitizer.TOOL}: missing: memory and races of kernels are not checked; it comes with a CUDA toolkit"
        run.add("sanitizer", limit, 0.0, said, [])
        return
    env = {**run.env, **sanitizer.ENVIRONMENT}

    def ended(what: str) -> stage.Ended:
        return stage.run(sanitizer.command(place, what), limit, env, machine.ROOT, run.folder / f"{what}.log")

    with ThreadPoolExecutor() as pool:  # at the same time: most of each is the host's work
        all_ended = list(pool.map(ended, sanitizer.TOOLS))
    spent = max(one.seconds for one in all_ended)
    verdicts = [
        sanitizer.verdict(what, one, run.folder / f"{what}.log")
        for what, one in zip(sanitizer.TOOLS, all_ended, strict=True)
    ]
    faults = [verdict.line for verdict in verdicts if verdict.fault]
    run.add("sanitizer", limit, spent, "; ".join(verdict.line for verdict in verdicts), faults)


STAGES = {"tests": tests, "benchmarks": benchmarks, "profile": profile, "sanitizer": sanitized}


def read(file: Path, otherwise: Any) -> Any:
    """What a stage has written, as far as it came."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return otherwise


def broken(ended: stage.Ended, found: list[Any]) -> list[str]:
    """Faults of a stage that ended by itself otherwise than it should, or with nothing."""
    if ended.code and not ended.late:
        return [f"ended with {ended.code}"]
    return [] if found else ["nothing was measured"]


def arguments() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES), help="by default all")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results (default bench/results)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    asked = arguments().parse_args(argv)
    start = time.monotonic()
    description, env, pointed = machine.pointed(machine.environment(os.environ))
    clocks = machine.clocks()
    missing = [pieces.Missing(**piece) for piece in description["missing"]]
    for name, value in description["facts"]:
        print(f"{name}: {value}")
    for line in filter(None, (clocks, pointed, *map(pieces.line, missing))):
        print(line)
    print(f"--- the machine: {time.monotonic() - start:.0f} s", flush=True)
    if any(piece.needed for piece in missing):
        print("make gpu: nothing was run: see what is missing above", file=sys.stderr)
        if ENVIRONMENT.exists() and Path(sys.prefix) != ENVIRONMENT.parents[1]:
            print("make gpu: there is an environment here: make gpu PYTHON=.venv/bin/python", file=sys.stderr)
        return 2
    from bench.card import report, targets  # now: torch is there

    document: Document = {
        "card": description["card"],
        "facts": report.published(description["facts"]),
        "missing": description["missing"],
        "datetime": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "clocks": clocks,
        "stages": [],
        "faults": [],
        "tests": {},
        "benchmarks": [],
        "profile": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        run = Run(env, document, Path(folder), start + TOTAL)
        for name in asked.stages:
            if run.limit(name) < SHORTEST:
                left_out = "left out: no time was left"
                run.add(name, run.limit(name), 0.0, left_out, [left_out] if name == "tests" else [])
            else:
                STAGES[name](run)
            files = report.write(document, asked.out)  # after each: what was found stays, whatever happens next
    for target in targets.TARGETS if document["benchmarks"] else ():
        print(" | ".join(targets.cells(target, document["benchmarks"])))
    print(f"{' and '.join(map(str, files))}, {time.monotonic() - start:.0f} s in all")
    for fault in document["faults"]:
        print(f"make gpu: {fault}", file=sys.stderr)
    return 1 if document["faults"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
