"""Where rows are measured: on a card at full size, or on a CPU at tiny ones, as a trial of the code."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from bench.card.clock import CudaClock, HostClock
from bench.processes import DT

SHARE = 0.9  # of the free memory, for one row
Compile = Callable[[Callable[..., Any]], Callable[..., Any]]


class Sizes(NamedTuple):
    """What rows are measured at; those of paths that do not fit are halved until they do."""

    m: int = 256  # times
    n: int = 2**24  # paths
    n_other: int = 2**22  # of rows without a target
    n_checked: int = 2**16  # in comparisons of one answer with another
    rows: int = 1000  # of mean_square: 8.4 GB in float32
    row: int = 2**21


TRIAL = Sizes(m=16, n=2048, n_other=2048, n_checked=1500, rows=8, row=1000)


@dataclass(frozen=True)
class Place:
    """A device, its clock, and what is there besides."""

    device: str
    clock: Any
    sizes: Sizes
    compile: Compile
    cupy: Any = None

    @property
    def card(self) -> bool:
        """Is it a card?"""
        return self.device == "cuda"

    def free(self) -> float:
        """Bytes that torch can allocate."""
        return torch.cuda.mem_get_info()[0] if self.card else float("inf")

    def fitting(self, n: int, bytes_each: float) -> tuple[int, str]:
        """n, halved until so many of `bytes_each` fit, and a note where it was."""
        fits = halved(n, bytes_each, SHARE * self.free())
        return fits, "" if fits == n else f"n = {fits:,}: {n * bytes_each / 1e9:.3g} GB do not fit"

    def times(self, dtype: str = "float32") -> torch.Tensor:
        """An even grid."""
        return torch.arange(1, self.sizes.m + 1, dtype=getattr(torch, dtype), device=self.device) * DT

    def clear(self) -> None:
        """Give back what rows before held."""
        if self.card:
            gc.collect()  # errors that were caught hold what their frames held
            torch.cuda.empty_cache()
        if self.cupy is not None:
            self.cupy.get_default_memory_pool().free_all_blocks()


def halved(n: int, bytes_each: float, free: float) -> int:
    """n, halved until so many fit.

    >>> halved(2**24, 1024, 80e9), halved(2**24, 1024, 10e9) == 2**23
    (16777216, True)
    """
    while n > 1 and n * bytes_each > free:
        n //= 2
    return n


def on_card() -> Place:
    """The current card, with CuPy where it is installed."""
    try:
        import cupy
    except ImportError:
        cupy = None
    compiled = lambda function: torch.compile(function, dynamic=False)  # noqa: E731
    return Place("cuda", CudaClock(), Sizes(), compiled, cupy)


def trial() -> Place:
    """The CPU: every row once, fast, traced by torch.compile and not compiled."""
    traced = lambda function: torch.compile(function, dynamic=False, backend="eager")  # noqa: E731
    return Place("cpu", HostClock(warm=0.0, seconds=0.0), TRIAL, traced)
