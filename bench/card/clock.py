"""Times of calls: by a card's events, its cache overwritten before each, or by the clock of a machine that has none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

SECONDS = 0.6  # of a row: its calls, warm-up left out
LEAST, MOST = 3, 101  # calls
WARM = 0.1  # seconds: a card that was idle raises its clocks in that time
ROUNDS = 7  # of calls back to back
L2_BYTES = 2**26  # where torch does not tell


class Timing(NamedTuple):
    """Seconds of a call: median and quartiles of so many."""

    median: float
    low: float
    high: float
    calls: int


def timing_of(seconds: list[float]) -> Timing:
    """Median and quartiles.

    >>> timing_of([3.0, 1.0, 2.0])
    Timing(median=2.0, low=1.5, high=2.5, calls=3)
    """
    low, median, high = (float(value) for value in np.quantile(seconds, [0.25, 0.5, 0.75]))
    return Timing(median, low, high, len(seconds))


def calls_within(seconds: float, one: float) -> int:
    """How many calls of `one` second each to time.

    >>> calls_within(1.0, 0.1), calls_within(1.0, 9.0), calls_within(1.0, 1e-6)
    (10, 3, 101)
    """
    return int(min(max(seconds / max(one, 1e-9), LEAST), MOST))


class HostClock:
    """A machine's own clock, for work that is done when a call returns."""

    def __init__(self, warm: float = WARM, seconds: float = SECONDS):
        self.warm, self.seconds = warm, seconds

    def sync(self) -> None:
        """Wait for all work under way."""

    def flush(self) -> None:
        """Make a call find nothing in a cache that the one before it left there."""

    def mark(self) -> Any:
        """Now, among the work that was asked for."""
        return time.perf_counter()

    def between(self, start: Any, end: Any) -> float:
        """Seconds between two marks, when all work is done."""
        return float(end - start)

    def named(self, name: str) -> contextlib.AbstractContextManager[None]:
        """A range of this name for profilers."""
        return contextlib.nullcontext()

    def timing(self, call: Callable[[], Any]) -> Timing:
        """Times of single calls, after others that do not count."""
        return timing_of([self._one(call) for _ in range(calls_within(self.seconds, self.warmed(call)))])

    def wall(self, call: Callable[[], Any]) -> Timing:
        """Times of a call among many back to back, the host's work included, with one wait at their end."""
        count = max(1, int(self.seconds / ROUNDS / self.warmed(call)))

        def calls() -> None:
            for _ in range(count):
                call()

        return timing_of([self._one(calls) / count for _ in range(ROUNDS)])

    def warmed(self, call: Callable[[], Any]) -> float:
        """Seconds of a call, after others that do not count: what it compiles, what it allocates, clocks that rise."""
        call()
        spent = last = self._one(call)
        while spent < self.warm:
            last = self._one(call)
            spent += last
        return last

    def _one(self, call: Callable[[], Any]) -> float:
        self.sync()
        start = time.perf_counter()
        call()
        self.sync()
        return time.perf_counter() - start


class CudaClock(HostClock):
    """A card's clock, for work on torch's current stream: events about each call, all read after the last."""

    def __init__(self, warm: float = WARM, seconds: float = SECONDS):
        super().__init__(warm, seconds)
        cache = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "L2_cache_size", 0)
        self._cache = torch.empty(2 * (cache or L2_BYTES), dtype=torch.int8, device="cuda")

    def sync(self) -> None:
        torch.cuda.synchronize()

    def flush(self) -> None:
        self._cache.zero_()  # twice the second-level cache

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end)) / 1e3

    def named(self, name: str) -> contextlib.AbstractContextManager[None]:
        return torch.cuda.nvtx.range(name)

    def timing(self, call: Callable[[], Any]) -> Timing:
        pairs = []
        for _ in range(calls_within(self.seconds, self.warmed(call))):
            self.flush()
            start = self.mark()
            call()
            pairs.append((start, self.mark()))
        self.sync()
        return timing_of([self.between(*pair) for pair in pairs])
