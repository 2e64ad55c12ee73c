"""torch: Monte Carlo means of paths that are never stored, as an op.

It gives a table: means, their derivatives in the parameters asked for, standard errors. attach.py makes of it a tensor
that differentiates.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from fastlam.attach import by_loop, under_transform
from fastlam.elements import record
from fastlam.one_pass import mean_table
from fastlam.stream import Stream, time_grid

_library = torch.library.Library("fastlam", "FRAGMENT")
_library.define(
    "simulate_mean(Tensor theta, Tensor times, int dynamics, int payoff, int[] wanted, int n_paths, int[] stream, "
    "bool antithetic, str real, bool stderr) -> Tensor"
)


def _simulate_mean_cpu(
    theta: torch.Tensor, times: torch.Tensor, dynamics: int, payoff: int, wanted: list[int], n_paths: int,
    stream: list[int], antithetic: bool, real: str, stderr: bool,
) -> torch.Tensor:  # fmt: skip
    seed, first = (low + (high << 32) for low, high in (stream[:2], stream[2:]))
    which = Stream(seed, first, n_paths, antithetic, real)
    grid = time_grid("simulate_mean", times)
    rows = mean_table(record(dynamics), record(payoff), theta.detach().numpy(), tuple(wanted), grid, which, stderr)
    return torch.from_numpy(np.ascontiguousarray(rows))


def table(
    theta: torch.Tensor, times: torch.Tensor, dynamics: int, payoff: int, wanted: tuple[int, ...],
    which: Stream, stderr: bool,
) -> torch.Tensor:  # fmt: skip
    """`one_pass.mean_table` as a tensor without derivatives, (1 + len(wanted) + stderr, m) float64."""
    plain = not (torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or under_transform())
    op = _simulate_mean_cpu if plain else torch.ops.fastlam.simulate_mean
    words = [part for number in (which.seed, which.first_path) for part in (number % 2**32, number >> 32)]
    numbers = list(wanted), which.n_paths, words, which.antithetic, which.real, stderr
    return cast(torch.Tensor, op(theta.detach(), times, dynamics, payoff, *numbers))


_library.impl("simulate_mean", _simulate_mean_cpu, "CPU")


@torch.library.register_fake("fastlam::simulate_mean")
def _simulate_mean_fake(
    theta: torch.Tensor, times: torch.Tensor, dynamics: int, payoff: int, wanted: list[int], *others: Any
) -> torch.Tensor:
    return times.new_empty((1 + len(wanted) + others[-1], times.shape[0]), dtype=torch.float64)


torch.library.register_vmap("fastlam::simulate_mean", by_loop(torch.ops.fastlam.simulate_mean))
