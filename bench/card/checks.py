"""What an answer of a row must be before it is timed: the law, at five standard errors, or another answer."""

from __future__ import annotations

from typing import Any

import torch

from bench.processes import MU, SIGMA


def check_normal(values: torch.Tensor, mean: float, deviation: float) -> None:
    """Mean and variance of independent normals; NaN fails."""
    n, values = values.numel(), values.double()
    off = abs(values.mean().item() - mean) / (deviation / n**0.5)
    assert off < 5, f"a mean {off:.3g} standard errors from {mean}"
    off = abs(values.var().item() / deviation**2 - 1) / (2 / n) ** 0.5
    assert off < 5, f"a variance {off:.3g} standard errors from {deviation**2}"


def check_paths(x: Any, times: torch.Tensor) -> None:
    """The first and last rows of paths of a Brownian motion from 0; the last step is independent of what was before."""
    first, before, last = (torch.as_tensor(x[j]).double() for j in (0, -2, -1))
    start, dt, t = times[0].item(), (times[-1] - times[-2]).item(), times[-1].item()
    check_normal(first, MU * start, SIGMA * start**0.5)
    check_normal(last, MU * t, SIGMA * t**0.5)
    check_normal(last - before, MU * dt, SIGMA * dt**0.5)
    correlation = torch.corrcoef(torch.stack([last - before, before]))[0, 1].item()
    assert abs(correlation) < 5 / len(last) ** 0.5, f"a correlation of {correlation:.3g} of a step with its past"


def check_means(k: torch.Tensor, times: torch.Tensor, n: int, x0: float = 0.0) -> None:
    """Means of x**2 over n paths of a Brownian motion from x0."""
    t = times.double()
    square, variance = (x0 + MU * t) ** 2, SIGMA**2 * t
    error = ((2 * variance**2 + 4 * square * variance) / n).sqrt()
    off = ((k.double() - square - variance).abs() / error).max().item()
    assert off < 5, f"a mean {off:.3g} standard errors from its expectation"
