"""torch: Monte Carlo means of paths that are never stored, as an op.

It gives a table: means, their derivatives in the parameters asked for, standard errors. attach.py makes of it a tensor
that differentiates.
"""

from __future__ import annotations

import sys
from typing import Any, cast

import numpy as np
import torch

from fastlam.arrays import array_of
from fastlam.attach import COMPILED, by_loop, observed, plain, without_derivatives
from fastlam.devices import gpu_part
from fastlam.elements import record
from fastlam.one_pass import mean_table
from fastlam.parameters import contiguous
from fastlam.stream import Stream, time_grid

_library = torch.library.Library("fastlam", "FRAGMENT")
_library.define(
    "simulate_mean(Tensor theta, Tensor times, int dynamics, int payoff, int[] wanted, int n_paths, int[] stream, "
    "bool antithetic, str real, bool stderr) -> Tensor"
)


def _simulate_mean(
    theta: torch.Tensor, times: torch.Tensor, dynamics: int, payoff: int, wanted: list[int], n_paths: int,
    stream: list[int], antithetic: bool, real: str, stderr: bool, name: str = "simulate_mean",
) -> torch.Tensor:  # fmt: skip
    seed, first = (low + (high << 32) for low, high in (stream[:2], stream[2:]))
    which = Stream(seed, first, n_paths, antithetic, real)
    elements = record(dynamics), record(payoff)
    values = contiguous(name, theta, sum(len(element.names) for element in elements))
    if times.is_cuda:
        if theta.device != times.device:
            raise ValueError(f"{name}: times is on {times.device}, but theta is on {theta.device}")
        paths = gpu_part("gpu_paths", f"{name}: times")
        return paths.mean_table(*elements, values, tuple(wanted), paths.time_grid(times), which, stderr)
    rows = mean_table(name, *elements, array_of(values), tuple(wanted), time_grid(name, times), which, stderr)
    return torch.from_numpy(np.ascontiguousarray(rows))


_alone = torch._disable_dynamo(_simulate_mean)  # type: ignore[attr-defined]  # its first call imports torch._dynamo


def _uncompiled(*arguments: Any) -> torch.Tensor:
    """The op's work; torch.compile, where it runs what it could not compile, must not look into SymPy and numba."""
    return (_alone if "torch._dynamo" in sys.modules else _simulate_mean)(*arguments)


def table(
    name: str, theta: torch.Tensor, times: torch.Tensor, dynamics: int, payoff: int, wanted: tuple[int, ...],
    which: Stream, stderr: bool,
) -> torch.Tensor:  # fmt: skip
    """`one_pass.mean_table` as a tensor without derivatives, (1 + len(wanted) + stderr, m) float64."""
    words = [*which.key, which.first_path % 2**32, which.first_path >> 32]  # an int of an op has a sign
    numbers = list(wanted), which.n_paths, words, which.antithetic, which.real, stderr
    arguments = plain(theta, bool(wanted)), times, dynamics, payoff, *numbers
    if observed():
        return cast(torch.Tensor, torch.ops.fastlam.simulate_mean(*arguments))
    return _uncompiled(*arguments, name)


for _key in ("CPU", "CUDA"):
    _library.impl("simulate_mean", _uncompiled, _key)
_library.impl("simulate_mean", without_derivatives(torch.ops.fastlam.simulate_mean, COMPILED), "Autograd")


@torch.library.register_fake("fastlam::simulate_mean")
def _simulate_mean_fake(
    theta: torch.Tensor, times: torch.Tensor, dynamics: int, payoff: int, wanted: list[int], *others: Any
) -> torch.Tensor:
    return times.new_empty((1 + len(wanted) + others[-1], times.shape[0]), dtype=torch.float64)


torch.library.register_vmap("fastlam::simulate_mean", by_loop(torch.ops.fastlam.simulate_mean))
