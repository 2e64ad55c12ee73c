"""The speed that is asked for, and what was measured. Stated for an H200; on other cards a comparison, no verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from bench.card.limits import COPYING
from bench.card.one_pass import GRADIENTS, ONE_PASS
from bench.card.paths import NORMALS, PATHS, STEPS
from bench.card.row import LIMITS
from bench.card.square import LARGE, SMALL

NORMALS_UNIT = " G normals/s"
Records = Iterable[dict[str, Any]]


class Target(NamedTuple):
    """What is asked for: `measured` gives (number, beside what), None where its rows are missing."""

    what: str
    least: float
    unit: str
    measured: Callable[[Records], tuple[float, str] | None]


def timed(records: Records, group: str) -> dict[str, dict[str, Any]]:
    """The timed rows of a group by name."""
    return {
        record["extra_info"]["row"]: record
        for record in records
        if record["group"] == group and record["state"] == "timed"
    }


def rate(group: str, row: str) -> Callable[[Records], tuple[float, str] | None]:
    """Billions of its unit per second."""

    def measured(records: Records) -> tuple[float, str] | None:
        record = timed(records, group).get(row)
        return None if record is None else (record["rate"], "")

    return measured


def times_faster(group: str, row: str, beside: Callable[[str], bool]) -> Callable[[Records], tuple[float, str] | None]:
    """The median of the fastest other row for which `beside` is true, over that of the row."""

    def measured(records: Records) -> tuple[float, str] | None:
        rows = timed(records, group)
        medians = {name: record["stats"]["median"] for name, record in rows.items()}
        others = [name for name, record in rows.items() if beside(name) and not record["extra_info"]["ours"]]
        if row not in medians or not others:
            return None
        best = min(others, key=medians.__getitem__)
        return medians[best] / medians[row], best

    return measured


def share_of_copying(records: Records) -> tuple[float, str] | None:
    """Bytes read once per second, over bytes that a copy reads and writes per second."""
    records = list(records)
    ours, copied = timed(records, LARGE).get("fastlam"), timed(records, LIMITS).get(COPYING)
    return None if ours is None or copied is None else (ours["rate"] / copied["rate"], "copying")


TARGETS = (
    Target(f"{ONE_PASS['float32']}", 400, NORMALS_UNIT, rate(ONE_PASS["float32"], "fastlam")),
    Target(GRADIENTS, 250, NORMALS_UNIT, rate(GRADIENTS, "fastlam")),
    Target(f"{PATHS}, stored", 350, NORMALS_UNIT, rate(PATHS, "fastlam, out=")),
    Target(f"{PATHS}, by normals and cumsum", 5, "x", times_faster(PATHS, "fastlam", lambda name: name != STEPS)),
    Target(f"{NORMALS}, beside cuRAND", 1.5, "x", times_faster(NORMALS, "fastlam", lambda name: "torch" not in name)),
    Target(f"{LARGE} 8 GB", 0.9, "x", share_of_copying),
    Target(f"{LARGE} 8 GB", 1, "x", times_faster(LARGE, "fastlam", lambda name: name == "torch.compile")),
    Target(f"{LARGE} 8 GB", 3, "x", times_faster(LARGE, "fastlam", lambda name: name == "torch eager")),
    Target(ONE_PASS["float64"], 100, NORMALS_UNIT, rate(ONE_PASS["float64"], "fastlam")),
    Target(SMALL, 1, "x", times_faster(SMALL, "fastlam", lambda name: name == "torch eager")),
    Target(
        f"{SMALL}, under a CUDA graph", 3, "x",
        times_faster(SMALL, "fastlam, CUDA graph", lambda name: name == "torch eager"),
    ),
)  # fmt: skip
COLUMNS = ("what", "at least", "measured", "reached")


def cells(target: Target, records: Records) -> tuple[str, str, str, str]:
    """A target's line of the table."""
    got = target.measured(records)
    if got is None:
        return target.what, f"{target.least:g}{target.unit}", "not measured", ""
    value, beside = got
    least = f"{target.least:g}{target.unit}{f' {beside}' if beside else ''}"
    return target.what, least, f"{value:.3g}{target.unit}", "yes" if value >= target.least else "**no**"
