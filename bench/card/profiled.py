"""One public call, profiled kernel by kernel."""

from __future__ import annotations

from typing import Any

from bench.card.calls import CALLS, Call, Problem
from bench.card.clock import calls_within
from bench.card.launches import Kernel, Launches, kernels, resources, warps
from bench.card.limits import COPYING, limits, philox_of
from bench.card.place import Place
from bench.card.row import measured
from bench.table import seconds

BYTES = {"float32": 4, "float64": 8}


def ceilings(place: Place) -> dict[str, float]:
    """Rates of copying and of Philox alone, as the benchmarks measure them."""
    found: dict[str, float] = {}
    for row in limits(place):
        record = measured(row, place, found)
        if record["state"] != "timed":
            print(f"{row.name}: {record['state']}: {record['why']}")
        place.clear()
    return found


def profiled(
    place: Place, name: str, process: str, n: int, m: int, dtype: str, calls: int, found: dict[str, float]
) -> dict[str, Any]:
    """The kernels of a call as lines of `report.profile`, and as numbers; `calls` of them, 0: as many as fit."""
    asked = CALLS[name]
    n, note = place.fitting(n, 3.0 * m * BYTES[dtype])  # x, its gradient, and what autograd holds
    call = asked.make(Problem(process, n, m, dtype, place.device))
    one = place.clock.warmed(call)
    host = place.clock.wall(call).median
    watch, seen = Launches(place.clock), []
    for _ in range(calls or calls_within(place.clock.seconds, one)):
        place.clock.flush()
        with watch.watched() as launches:
            call()
        seen.append(launches)
    place.clock.sync()
    if not any(seen):
        raise RuntimeError("no launch was seen: does fastlam launch by fastlam.kernels.cuda_launch.launch?")
    told = [cells(asked, kernel, m * n, dtype, found) for kernel in kernels(seen, place.clock.between)]
    about = f"{asked.about} of {process} {dtype}, n = {n:,}, m = {m:,}; {seconds(host)} a call{note and ', '}{note}"
    return {"name": f"{name} {dtype}", "about": about, "kernels": told, "wall": host}


def cells(call: Call, kernel: Kernel, values: int, dtype: str, found: dict[str, float]) -> dict[str, Any]:
    """A kernel's line. Rates are those of the call's longest kernel: the others only prepare or fold for it."""
    main = kernel.launch.name == call.kernel
    drawn = call.normals * values / kernel.seconds / 1e9 if main else 0.0
    moved = call.moved * values * BYTES[dtype] / kernel.seconds / 1e9 if main else 0.0
    told = resources(kernel.launch)
    return {
        "kernel": kernel.launch.name,
        "launches": str(kernel.launches),
        "time": seconds(kernel.seconds),
        "G normals/s": f"{drawn:.3g}" if drawn else "",
        "GB/s": f"{moved:.4g}" if moved else "",
        "of Philox": share(drawn, found.get(philox_of(dtype))),
        "of copying": share(moved, found.get(COPYING)),
        "launch": seconds(kernel.host),
        "registers": str(told["registers"]),
        "shared": f"{told['shared']:,} B",
        "spills": f"{told['spills']} B",
        "warps": occupancy(kernel),
        "seconds": kernel.seconds,
        "launch seconds": kernel.host,
    }


def share(rate: float, limit: float | None) -> str:
    """A rate's share of a limit, where there are both.

    >>> share(50.0, 200.0), share(0.0, 200.0), share(50.0, None)
    ('25%', '', '')
    """
    return f"{rate / limit:.0%}" if rate and limit else ""


def occupancy(kernel: Kernel) -> str:
    """Warps at once, of how many; what the driver has against saying so."""
    try:
        held, most = warps(kernel.launch)
    except Exception as error:  # a version of cuda-core that has no occupancy: the other columns are still wanted
        return f"unknown: {type(error).__name__}"
    return f"{held} of {most}"
