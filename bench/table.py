"""Print a pytest-benchmark JSON file as tables, one a group, and a summary: `python -m bench.table FILE`."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

COLUMNS = ("row", "median", "rate", "ratio", "share")


def seconds(value: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-6:.3g} us"


def lines(benchmark: dict) -> dict[str, str]:
    info = benchmark["extra_info"]
    return {"median": seconds(benchmark["stats"]["median"]), **{c: info.get(c, "") for c in COLUMNS if c != "median"}}


def tables(report: dict) -> str:
    """Markdown tables of a report."""
    text = []
    for group, benchmarks in groupby(report["benchmarks"], key=lambda b: b["group"]):
        text += ["", f"### {group}", "", "| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
        text += ["| " + " | ".join(lines(b)[c] for c in COLUMNS) + " |" for b in benchmarks]
    return "\n".join(text)


def summary(report: dict) -> str:
    """A table of what is compared with something, in one row each, under the machine: README's."""
    info = report["machine_info"]
    cpu = f"{info['cpu'].get('brand_raw', 'unknown processor')}, {info['cpu'].get('count')} cores"
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "torch"))
    text = [f"{cpu}, Python {info['python_version']}, {packages}, {report['datetime'][:10]}", ""]
    text += ["| what | fastlam | beside it, in the same run | of a limit |", "| --- | --- | --- | --- |"]
    for group, benchmarks in groupby(report["benchmarks"], key=lambda b: b["group"]):
        rows = [lines(benchmark) for benchmark in benchmarks]
        for row in rows if len(rows) == 1 else [row for row in rows if row["ratio"] or row["share"]]:
            what = group if row["row"].startswith("fastlam") else f"{group}: {row['row']}"
            cells = what, ", ".join(filter(None, (row["median"], row["rate"]))), row["ratio"], row["share"]
            text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


if __name__ == "__main__":
    document = json.loads(Path(sys.argv[1]).read_text())
    document["benchmarks"].sort(key=lambda b: b["group"])
    print(tables(document), summary(document), sep="\n\n")
