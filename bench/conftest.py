"""A row of a benchmark table: its time, its rate, its ratio to the best baseline, its share of a limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

MEDIANS: dict[str, dict[str, float]] = defaultdict(dict)
ROUNDS = 15


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """True where benchmarks are timed; False in the smoke run, which takes small sizes."""
    return bool(request.config.getoption("benchmark_enable"))


@pytest.fixture
def row(benchmark: Any, full: bool) -> Callable[..., None]:
    """Time `function` as row `name` of table `group`.

    A baseline enters its median in the table; a row that is ours gets `ratio`, the best baseline's median over its own.
    `work` is (amount, unit) per call: the rate is in 1e9 units per second. `limit` is a rate in the same unit.
    """

    def measure(
        group: str,
        name: str,
        function: Callable[[], Any],
        *,
        ours: bool = False,
        work: tuple[float, str] | None = None,
        limit: tuple[str, float] | None = None,
        rounds: int = ROUNDS,
        calls: int = 1,
    ) -> None:
        benchmark.group = group
        benchmark.extra_info["row"] = name
        warmups = min(2, rounds - 1)  # what runs once is not warmed up
        benchmark.pedantic(
            function, rounds=rounds if full else 1, warmup_rounds=warmups if full else 0, iterations=calls
        )
        if not full:
            return
        median = benchmark.stats.stats.median
        info = benchmark.extra_info
        if work is not None:
            rate = work[0] / median / 1e9
            info["rate"] = f"{rate:.3g} G{work[1]}/s"
            if limit is not None:
                info["share"] = f"{rate / limit[1]:.0%} of {limit[0]} ({limit[1]:.3g} G{work[1]}/s)"
        if not ours:
            MEDIANS[group][name] = median
        elif MEDIANS[group]:
            best = min(MEDIANS[group], key=MEDIANS[group].__getitem__)
            info["ratio"] = f"{MEDIANS[group][best] / median:.3g}x {best}"

    return measure
