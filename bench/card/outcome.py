"""What came of the tests marked `gpu`, by pytest's own XML: on a card none may be skipped but for want of a second."""

from __future__ import annotations

import importlib.util
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

from bench.card.machine import ROOT

SECOND = re.compile(r"(a|the) second (NVIDIA )?(GPU|card)|two (NVIDIA )?(GPUs|cards)", re.IGNORECASE)


class Outcome(NamedTuple):
    """How many tests passed, and lines on the others; `waiting` are those that wait for a second GPU."""

    passed: int
    failed: list[str]
    skipped: list[str]
    waiting: list[str]

    def faults(self) -> list[str]:
        """Why this is no success; empty where it is one."""
        none = [] if self.passed else ["no test marked gpu has passed"]
        return [*none, *(f"failed: {line}" for line in self.failed), *(f"skipped: {line}" for line in self.skipped)]


WORKERS = "6"  # where pytest-xdist is: the CPU, which says what the bits must be, compiles longer than a card runs


def marked() -> list[str]:
    """The files of tests marked `gpu`; others may want what only development has."""
    files = sorted((ROOT / "tests").glob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "pytestmark = pytest.mark.gpu" in file.read_text()]


def command(report: Path) -> list[str]:
    """The command: pytest on the tests marked `gpu`.

    Its options here are not those of pyproject.toml: packages of versions that nobody has tried may warn of what they
    will do one day, which is no fault of a kernel, and a plugin may be missing that an option there needs.
    """
    return [
        *(sys.executable, "-m", "pytest", "-m", "gpu", *marked(), "-o", "addopts=", "-W", "default", "--durations=10"),
        *("-q", "-rs", "-p", "no:cacheprovider", f"--junitxml={report}"),
        *(("-n", WORKERS) if importlib.util.find_spec("xdist") else ()),
    ]


def outcome(report: Path) -> Outcome:
    """Read the XML; a report that is missing, or cut off, is a failure."""
    try:
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        return Outcome(0, [f"pytest wrote no report: {error}"], [], [])
    answer = Outcome(0, [], [], [])
    passed = 0
    for case in cases:
        name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
        kinds = {child.tag: child for child in case if child.tag in ("failure", "error", "skipped")}
        for tag, child in kinds.items():
            why = " ".join(f"{child.get('message') or ''} {child.text or ''}".split())  # a module's reason is its text
            why = why.replace(f"{ROOT}/", "")
            waits = tag == "skipped" and SECOND.search(why)
            where = answer.failed if tag != "skipped" else answer.waiting if waits else answer.skipped
            where.append(f"{name}: {why[:300]}")
        passed += not kinds
    return answer._replace(passed=passed)
