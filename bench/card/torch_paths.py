"""Brownian paths, and means of their squares, in torch: each way that may be the fastest on a card.

Every function takes (m, n, device). Those that store paths return m rows of n; the others the means of m times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench.processes import DT, MU, SIGMA

STEP = MU * DT, SIGMA * DT**0.5
TOGETHER = 8  # times of one compiled graph: what makes them becomes one kernel, the state in registers between


def cumsum_by_time(m: int, n: int, device: str) -> torch.Tensor:
    """As one writes it, time-major."""
    return (STEP[0] + STEP[1] * torch.randn(m, n, device=device)).cumsum(0)


def cumsum_by_time_in_place(m: int, n: int, device: str) -> torch.Tensor:
    """One array, drawn in one call and summed along times."""
    return torch.empty(m, n, device=device).normal_(*STEP).cumsum_(0)


def cumsum_by_path_in_place(m: int, n: int, device: str) -> torch.Tensor:
    """One array, summed along the contiguous axis."""
    return torch.empty(n, m, device=device).normal_(*STEP).cumsum_(1).T


def running_sum(m: int, n: int, device: str) -> torch.Tensor:
    """One array drawn in one call; each time added to the one before."""
    x = torch.empty(m, n, device=device).normal_(*STEP)
    for j in range(1, m):
        torch.add(x[j - 1], x[j], out=x[j])
    return x


PATHS = {
    "torch randn, cumsum": cumsum_by_time,
    "torch normal_, cumsum_ by time": cumsum_by_time_in_place,
    "torch normal_, cumsum_ by path": cumsum_by_path_in_place,
    "torch normal_, running sum": running_sum,
}


def _stepped(x: torch.Tensor) -> list[torch.Tensor]:
    states = []
    for _ in range(TOGETHER):
        x = x + (STEP[0] + STEP[1] * torch.randn_like(x))
        states.append(x)
    return states


def _reduced(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    states = _stepped(x)
    return states[-1], torch.stack([state.square().mean() for state in states])


def compiled_steps(compiled: Callable[..., Any]) -> Callable[..., Sequence[torch.Tensor]]:
    """Stored paths by compiled graphs of eight steps, each with its own randn: not by cumsum."""
    steps = compiled(_stepped)

    def paths(m: int, n: int, device: str) -> list[torch.Tensor]:
        rows: list[torch.Tensor] = [torch.zeros(n, device=device)]
        for _ in range(0, m, TOGETHER):
            rows += steps(rows[-1])
        return rows[1:]

    return paths


def compiled_cumsum(compiled: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    """Stored paths by one compiled graph of randn and cumsum."""
    return compiled(cumsum_by_time)


def means_by_cumsum(m: int, n: int, device: str) -> torch.Tensor:
    """As one writes it: the paths are stored."""
    return cumsum_by_time_in_place(m, n, device).square_().mean(1)


def means_of_running_sum(m: int, n: int, device: str) -> torch.Tensor:
    """One state, and one array of noise, for all times."""
    x, z = torch.zeros(n, device=device), torch.empty(n, device=device)
    norms = []
    for _ in range(m):
        x.add_(z.normal_(*STEP))
        norms.append(torch.linalg.vector_norm(x))
    return torch.stack(norms).square_() / n


def means_of_compiled_steps(compiled: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    """One state; compiled graphs of eight steps and their means."""
    steps = compiled(_reduced)

    def means(m: int, n: int, device: str) -> torch.Tensor:
        x, parts = torch.zeros(n, device=device), []
        for _ in range(0, m, TOGETHER):
            x, part = steps(x)
            parts.append(part)
        return torch.cat(parts)

    return means
