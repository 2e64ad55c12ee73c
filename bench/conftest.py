"""A row of a benchmark table: its time, its rate, its share of a limit; bench/table.py compares it with the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.table import rate_cells

ROUNDS = 15


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """True where benchmarks are timed; False in the smoke run, which takes small sizes."""
    return bool(request.config.getoption("benchmark_enable"))


@pytest.fixture
def row(benchmark: Any, full: bool) -> Callable[..., None]:
    """Time `function` as row `name` of table `group`.

    A row is `ours`, or a baseline of those that are. `work` is (amount, unit) per call: the rate is in 1e9 units per
    second. `limit` is a rate in the same unit.
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
        info = benchmark.extra_info
        info["row"], info["ours"] = name, ours
        warmups = min(2, rounds - 1)  # what runs once is not warmed up
        benchmark.pedantic(
            function, rounds=rounds if full else 1, warmup_rounds=warmups if full else 0, iterations=calls
        )
        if not full:
            return
        info.update(rate_cells(work, benchmark.stats.stats.median, limit))

    return measure
