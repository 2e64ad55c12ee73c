"""Measure every row: `python -m bench.card.rows --out FILE`. The exit code is 1 where an answer of ours is wrong.

The file is written anew after each row, so that what was measured stays whatever happens next.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.card import one_pass, paths, square, whole
from bench.card.limits import limits
from bench.card.place import Place, on_card
from bench.card.row import Row, late, measured
from bench.table import seconds

Rows = Callable[[Place], Iterator[Row]]
# In this order: where time runs out, rows without a target are those that are left out.
GROUPS: tuple[Rows, ...] = (
    limits,
    one_pass.means,
    one_pass.gradients,
    square.large,
    square.small,
    paths.paths,
    paths.normals,
    one_pass.means_float64,
    paths.paths_float64,
    one_pass.processes,
)


def measure(
    place: Place, budget: float, tell: Callable[[dict[str, Any]], None], now: Callable[[], float] = time.monotonic
) -> list[dict[str, Any]]:
    """The records of all rows; `tell` is given each. Those that would begin after `budget` seconds are left out."""
    end = now() + budget
    records: list[dict[str, Any]] = []
    ceilings: dict[str, float] = {}
    for group in GROUPS:
        if now() > end:
            tell(_add(records, late(Row(group.__name__, "all rows", lambda: None, ours=True), _why(budget))))
            continue
        place.clear()
        rows = group(place)
        while (row := _following(rows, group.__name__)) is not None:
            tell(_add(records, measured(row, place, ceilings) if now() <= end else late(row, _why(budget))))
            place.clear()
    return records


def _following(rows: Iterator[Row], group: str) -> Row | None:
    """The next row; what a group's preparation raises is the fault of a row in its place, the group's last."""
    try:
        return next(rows, None)
    except Exception as error:
        raised = error

        def make() -> Any:
            raise raised

        return Row(group, "all rows", make, ours=True)


def _add(records: list[dict[str, Any]], record: dict[str, Any]) -> dict[str, Any]:
    records.append(record)
    return record


def _why(budget: float) -> str:
    return f"the {budget:.0f} s of the benchmarks were used up"


def line(record: dict[str, Any]) -> str:
    """A record in one line."""
    info = record["extra_info"]
    name = f"{record['group']}: {info['row']}"
    if record["state"] != "timed":
        return f"{name}: {record['state']}: {record['why']}"
    cells = [seconds(record["stats"]["median"]), info.get("rate"), info.get("share"), info.get("note")]
    return f"{name}: {', '.join(filter(None, cells))}"


def faults(records: list[dict[str, Any]]) -> list[str]:
    """Lines about rows of ours with no right answer."""
    return [line(record) for record in records if record["state"] in ("wrong", "failed")]


def main() -> int:
    """Measure on the current card."""
    parser = argparse.ArgumentParser(prog="python -m bench.card.rows", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--seconds", type=float, default=600.0, help="rows that would begin later are left out")
    asked = parser.parse_args()
    records: list[dict[str, Any]] = []

    def tell(record: dict[str, Any]) -> None:
        records.append(record)
        print(line(record), flush=True)
        whole.write(asked.out, json.dumps(records))

    return 1 if faults(measure(on_card(), asked.seconds, tell)) else 0


if __name__ == "__main__":
    raise SystemExit(main())
