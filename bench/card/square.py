"""Rows of lam * mean(x**2), forward + backward in lam: 8 GB, and 32 x 1000 values, where launches are all the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

import fastlam
from bench.card import cupy_paths
from bench.card.graph import captured
from bench.card.limits import COPYING
from bench.card.place import Place
from bench.card.row import Row
from bench.processes import LAM

LARGE, SMALL = "mean_square forward + backward in lam", "32 x 1000 forward + backward in lam"
Mean = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
CHUNK = 2**25  # elements that a check takes at once to float64


def eager(x: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """As one writes it."""
    return lam * (x**2).mean(1)


def norm(x: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """Torch's fastest single pass."""
    return lam * (torch.linalg.vector_norm(x, dim=1) ** 2 / x.shape[1])


def large(place: Place) -> Iterator[Row]:
    """Rows far larger than any cache."""
    rows = place.sizes.rows
    n, note = place.fitting(place.sizes.row, 3.0 * 4 * rows)  # eager holds x and x**2
    x = torch.empty(rows, n, device=place.device).normal_(0.1, 0.7)
    want = expected(x)
    work = 4.0 * x.numel(), "B"
    functions: list[tuple[str, Callable[[], Mean]]] = [
        ("fastlam", lambda: fastlam.mean_square),
        ("torch eager", lambda: eager),
        ("torch norm", lambda: norm),
        ("torch.compile", lambda: place.compile(eager)),
    ]
    for name, make in functions:
        call = lambda make=make: checked(make(), x, want)  # noqa: E731
        yield Row(LARGE, name, call, ours=name == "fastlam", work=work, limit=COPYING, note=note)
    if place.cupy is not None:
        yield Row(LARGE, "CuPy ReductionKernel", lambda: by_cupy(place.cupy, x, want), work=work, note=note)


def small(place: Place) -> Iterator[Row]:
    """Wall time a call among many, and the same under a CUDA graph."""
    x = torch.empty(32, 1000, device=place.device).normal_(0.1, 0.7)
    want = expected(x)
    functions: list[tuple[str, Callable[[], Mean]]] = [
        ("fastlam", lambda: fastlam.mean_square),
        ("torch eager", lambda: eager),
        ("torch.compile", lambda: place.compile(eager)),
    ]
    for name, make in functions:
        call = lambda make=make: checked(make(), x, want)  # noqa: E731
        yield Row(SMALL, name, call, ours=name == "fastlam", wall=True)
    for name, function in (("fastlam", fastlam.mean_square), ("torch eager", eager)) if place.card else ():
        call = lambda function=function: graphed(function, x, want)  # noqa: E731
        yield Row(SMALL, f"{name}, CUDA graph", call, ours=name == "fastlam", wall=True)


def expected(x: torch.Tensor) -> float:
    """The gradient in lam of the sum of all means: the sum of the means of squares, in float64."""
    together = max(1, CHUNK // x.shape[1])
    return sum(part.double().square().mean(1).sum().item() for part in x.split(together))


def once(function: Mean, x: torch.Tensor) -> tuple[Callable[[], None], torch.Tensor]:
    """(call, lam): a call leaves its gradient in lam.grad."""
    lam = torch.tensor(LAM, device=x.device, requires_grad=True)
    weight = torch.ones(x.shape[0], device=x.device)

    def call() -> None:
        lam.grad = None
        function(x, lam).backward(weight)

    return call, lam


def checked(function: Mean, x: torch.Tensor, want: float) -> Callable[[], None]:
    """The gradient, to the rounding of sums in float32."""
    call, lam = once(function, x)
    call()
    check_gradient(lam, want)
    return call


def check_gradient(lam: torch.Tensor, want: float) -> None:
    """Of sums of some million values in float32, which baselines add."""
    assert lam.grad is not None
    off = abs(lam.grad.item() / want - 1)
    assert off < 1e-4, f"a gradient off by {off:.3g} of itself"


def graphed(function: Mean, x: torch.Tensor, want: float) -> Callable[[], None]:
    """A call is the replay of one captured forward + backward."""
    call, lam = once(function, x)
    graph, _ = captured(call)
    assert lam.grad is not None
    lam.grad.zero_()
    graph.replay()
    torch.cuda.synchronize()
    check_gradient(lam, want)
    return graph.replay


def by_cupy(cupy: Any, x: torch.Tensor, want: float) -> Callable[[], Any]:
    """The gradient in lam is the mean itself: one reduction is both."""
    array, reduce = cupy.from_dlpack(x), cupy_paths.mean_square(cupy)

    def call() -> Any:
        means = reduce(array)
        return LAM * means, means.sum()

    off = abs(float(call()[1]) / want - 1)
    assert off < 1e-9, f"a gradient off by {off:.3g} of itself"  # sums in float64
    return call
