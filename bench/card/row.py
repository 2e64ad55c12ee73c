"""A row of the tables of a card: what it measures, and what came of it, in the form of bench/table.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bench.card.place import Place
from bench.table import rate_cells

LIMITS = "limits"  # the group whose rows are what others have a share of


class Row(NamedTuple):
    """One way to do what its group does.

    `make` checks an answer, raising AssertionError, and returns the call to be timed. `work` is (amount, unit) of a
    call. `limit` names the row of the group `limits` that it has a share of. `wall`: the host's work is timed too.
    """

    group: str
    name: str
    make: Callable[[], Callable[[], Any]]
    ours: bool = False
    work: tuple[float, str] | None = None
    limit: str = ""
    wall: bool = False
    note: str = ""


def measured(row: Row, place: Place, limits: dict[str, float]) -> dict[str, Any]:
    """The row's record: `state` is timed, wrong, failed or left out, and `why` it is not timed.

    A fault of one row is that row's: what a baseline needs may be missing, and the others are still wanted.
    """
    info = {"row": row.name, "ours": row.ours, "note": row.note}
    record: dict[str, Any] = {"group": row.group, "extra_info": info, "state": "timed", "why": ""}
    try:
        call = row.make()
        timing = place.clock.wall(call) if row.wall else place.clock.timing(call)
    except AssertionError as error:
        return {**record, "state": "wrong" if row.ours else "left out", "why": f"wrong answer: {_line(error)}"}
    except Exception as error:
        why = f"{type(error).__name__}: {_line(error)}"
        return {**record, "state": "failed" if row.ours else "left out", "why": why}
    limit = (row.limit, limits[row.limit]) if row.limit in limits else None
    info.update(rate_cells(row.work, timing.median, limit))
    rate = row.work[0] / timing.median / 1e9 if row.work else 0.0
    if row.group == LIMITS:
        limits[row.name] = rate
    spread = {"q1": timing.low, "q3": timing.high, "rounds": timing.calls}
    return {**record, "rate": rate, "stats": {"median": timing.median, **spread}}


def late(row: Row, why: str) -> dict[str, Any]:
    """The record of a row for which no time was left."""
    return {
        "group": row.group,
        "extra_info": {"row": row.name, "ours": row.ours},
        "state": "left out",
        "why": why,
    }


def _line(error: BaseException) -> str:
    """What an error says, in one line that fits a table."""
    return " ".join(str(error).split())[:300]
