"""Print a pytest-benchmark JSON file as tables, one a group, and a summary: `python -m bench.table FILE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

COLUMNS = ("row", "median", "rate", "ratio", "share")


def seconds(value: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-6:.3g} us"


def rate_cells(work: tuple[float, str] | None, median: float, limit: tuple[str, float] | None = None) -> dict[str, str]:
    """The cells `rate` and `share` of a row whose calls do `work`, (amount, unit), in `median` seconds.

    >>> rate_cells((6e9, "B"), 2.0, ("copying", 4.0))
    {'rate': '3 GB/s', 'share': '75% of copying (4 GB/s)'}
    """
    if work is None:
        return {}
    rate, unit = work[0] / median / 1e9, f"G{work[1]}/s"
    cells = {"rate": f"{rate:.3g} {unit}"}
    if limit is not None:
        cells["share"] = f"{rate / limit[1]:.0%} of {limit[0]} ({limit[1]:.3g} {unit})"
    return cells


def lines(benchmarks: list[dict]) -> list[dict[str, str]]:
    """The cells of a group's rows. Those of ours have `ratio`: the best baseline's median over their own.

    >>> timed = lambda row, ours, median: {"extra_info": {"row": row, "ours": ours}, "stats": {"median": median}}
    >>> group = [timed("fastlam", True, 2e-3), timed("torch", False, 6e-3), timed("numpy", False, 3e-3)]
    >>> [(line["row"], line["median"], line["ratio"]) for line in lines(group)]
    [('fastlam', '2 ms', '1.5x numpy'), ('torch', '6 ms', ''), ('numpy', '3 ms', '')]
    """
    baselines = [benchmark for benchmark in benchmarks if not benchmark["extra_info"]["ours"]]
    best = min(baselines, key=median_of, default=None)
    answer = []
    for benchmark in benchmarks:
        info, median = benchmark["extra_info"], median_of(benchmark)
        compared = best is not None and info["ours"]
        ratio = f"{median_of(best) / median:.3g}x {best['extra_info']['row']}" if compared else ""
        answer.append({**dict.fromkeys(COLUMNS, ""), **info, "median": seconds(median), "ratio": ratio})
    return answer


def median_of(benchmark: dict) -> float:
    return benchmark["stats"]["median"]


def groups(report: dict) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Each group's name and lines."""
    by_group = lambda benchmark: benchmark["group"]  # noqa: E731
    for group, benchmarks in groupby(sorted(report["benchmarks"], key=by_group), by_group):
        yield group, lines(list(benchmarks))


def tables(report: dict) -> str:
    """Markdown tables of a report."""
    text = []
    for group, rows in groups(report):
        columns = [column for column in (*COLUMNS, "note") if column in COLUMNS or any(row.get(column) for row in rows)]
        text += ["", f"### {group}", "", *table(columns, [[row.get(c, "") for c in columns] for row in rows])]
    return "\n".join(text)


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a Markdown table.

    >>> table(["what", "time"], [["copying", "2 ms"]])
    ['| what | time |', '| --- | --- |', '| copying | 2 ms |']
    """
    columns = list(columns)
    return ["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *rows)]


def summary(report: dict) -> str:
    """A table of what is compared with something, in one row each, under the machine: README's."""
    info = report["machine_info"]
    cpu = f"{info['cpu'].get('brand_raw', 'unknown processor')}, {info['cpu'].get('count')} cores"
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "torch"))
    text = [f"{cpu}, Python {info['python_version']}, {packages}, {report['datetime'][:10]}", ""]
    text += ["| what | fastlam | beside it, in the same run | of a limit |", "| --- | --- | --- | --- |"]
    for group, rows in groups(report):
        for row in rows if len(rows) == 1 else [row for row in rows if row["ratio"] or row["share"]]:
            what = group if row["row"].startswith("fastlam") else f"{group}: {row['row']}"
            cells = what, ", ".join(filter(None, (row["median"], row["rate"]))), row["ratio"], row["share"]
            text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


if __name__ == "__main__":
    document = json.loads(Path(sys.argv[1]).read_text())
    print(tables(document), summary(document), sep="\n\n")
