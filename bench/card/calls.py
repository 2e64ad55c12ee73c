"""The public calls that are profiled, each by the name of the kernel that is most of it, with what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

import fastlam
from bench.processes import DT, LAM, PROCESSES

SEED = 7


class Problem(NamedTuple):
    """What is asked for on the command line."""

    process: str
    n: int
    m: int
    dtype: str
    device: str = "cuda"

    def times(self) -> torch.Tensor:
        """An even grid."""
        return torch.arange(1, self.m + 1, dtype=getattr(torch, self.dtype), device=self.device) * DT

    def leaves(self) -> dict[str, torch.Tensor]:
        """The process's parameters as tensors that require grad."""
        values = PROCESSES[self.process][1]
        make = lambda value: torch.tensor(value, device=self.device, requires_grad=True)  # noqa: E731
        return {name: make(value) for name, value in values.items()}

    def made(self, **parameters: Any) -> Any:
        """The process."""
        make, values = PROCESSES[self.process]
        return make(**{**values, **parameters})

    def x(self) -> torch.Tensor:
        """An array of the size of the paths."""
        return torch.empty(self.m, self.n, dtype=getattr(torch, self.dtype), device=self.device).normal_()


class Call(NamedTuple):
    """A public call: what it is in words, what makes it, and what its longest kernel does per value of (m, n).

    `normals` are drawn, `moved` elements read or written.
    """

    about: str
    make: Callable[[Problem], Callable[[], Any]]
    kernel: str
    normals: int
    moved: float


def simulate(problem: Problem) -> Callable[[], Any]:
    """Paths into memory that is given."""
    process, times = problem.made(), problem.times()
    out = torch.empty(problem.m, problem.n, dtype=times.dtype, device=problem.device)
    return lambda: fastlam.simulate(process, times, problem.n, seed=SEED, out=out)


def simulate_mean(problem: Problem) -> Callable[[], Any]:
    """Means alone."""
    process, times = problem.made(), problem.times()
    return lambda: fastlam.simulate_mean_square(process, times, problem.n, LAM, seed=SEED)


def simulate_mean_stderr(problem: Problem) -> Callable[[], Any]:
    """Means and standard errors."""
    process, times = problem.made(), problem.times()
    return lambda: fastlam.simulate_mean_square(process, times, problem.n, LAM, seed=SEED, return_stderr=True)


def simulate_mean_gradients(problem: Problem) -> Callable[[], Any]:
    """Forward + backward in lam and every parameter."""
    times, leaves = problem.times(), problem.leaves()
    lam = torch.tensor(LAM, device=problem.device, requires_grad=True)
    weight = torch.ones_like(times)

    def call() -> None:
        for leaf in (lam, *leaves.values()):
            leaf.grad = None
        fastlam.simulate_mean_square(problem.made(**leaves), times, problem.n, lam, seed=SEED).backward(weight)

    return call


def mean(problem: Problem) -> Callable[[], Any]:
    """Rows reduced."""
    x = problem.x()
    return lambda: fastlam.mean_square(x, LAM)


def slope(problem: Problem) -> Callable[[], Any]:
    """Forward + backward in x."""
    x = problem.x().requires_grad_()
    weight = torch.ones(problem.m, dtype=x.dtype, device=x.device)

    def call() -> None:
        x.grad = None
        fastlam.mean_square(x, LAM).backward(weight)

    return call


def weigh(problem: Problem) -> Callable[[], Any]:
    """Forward + backward in x of rows picked by an index."""
    x = problem.x().requires_grad_()
    picked = torch.arange(0, problem.m, 2, device=x.device)
    weight = torch.ones(len(picked), dtype=x.dtype, device=x.device)

    def call() -> None:
        x.grad = None
        fastlam.mean_square(x, LAM, index=picked).backward(weight)

    return call


CALLS = {
    "simulate": Call("simulate(..., out=)", simulate, "simulate", 1, 1),
    "simulate_mean": Call("simulate_mean_square", simulate_mean, "simulate_mean", 1, 0),
    "simulate_mean_stderr": Call(
        "simulate_mean_square(..., return_stderr=True)", simulate_mean_stderr, "simulate_mean", 1, 0
    ),
    "simulate_mean_gradients": Call(
        "simulate_mean_square, forward + backward in all parameters", simulate_mean_gradients, "simulate_mean", 1, 0
    ),
    "mean": Call("mean_square", mean, "mean", 0, 1),
    "slope": Call("mean_square, forward + backward in x", slope, "slope", 0, 2),
    "weigh": Call("mean_square(..., index=every other row), forward + backward in x", weigh, "slope", 0, 1.5),
}
