"""The diffusions: their parameters, checks, coefficients on a time grid, and element."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from fastlam.kernels.brownian import brownian


@dataclass(frozen=True)
class Brownian:
    """Brownian motion with drift, `dX = mu dt + sigma dW`, started in `x0` at time 0; simulated exactly.

    Parameters
    ----------
    mu : float
        Drift, in units of x per unit of time.
    sigma : float
        Volatility, at least 0, in units of x per square root of time.
    x0 : float
        State at time 0.

    Raises
    ------
    TypeError, ValueError
        A parameter that is not a real number, is NaN or infinite, or `sigma < 0`.

    Examples
    --------
    >>> Brownian(mu=0.05, sigma=0.2)
    Brownian(mu=0.05, sigma=0.2, x0=0.0)
    """

    mu: float = 0.0
    sigma: float = 1.0
    x0: float = 0.0

    step: ClassVar[Callable[..., float]] = staticmethod(brownian)
    n_coefficients: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.sigma < 0:
            raise ValueError(f"Brownian: sigma must be at least 0, but is {self.sigma}")

    def coefficients(self, dt: np.ndarray) -> np.ndarray:
        """What the element takes for steps of length `dt` (m,): (m, 2) of (mu dt, sigma sqrt(dt)), float64."""
        return np.stack([self.mu * dt, self.sigma * np.sqrt(dt)], axis=1)


Process = Brownian


def check_parameters(process: Process) -> None:
    """Replace each field by its float; refuse what is not one finite real number."""
    for field in fields(process):
        value = getattr(process, field.name)
        name = f"{type(process).__name__}: {field.name}"
        if getattr(value, "requires_grad", False):
            raise TypeError(f"{name} requires grad, but paths carry no gradient in it: pass {field.name}.item()")
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{name} must be one real number, but is {value!r}") from None
        if isinstance(value, (str, bytes)):
            raise TypeError(f"{name} must be one real number, but is {value!r}")
        if not math.isfinite(number):
            raise ValueError(f"{name} must be finite, but is {number}")
        object.__setattr__(process, field.name, number)
