"""The diffusions: their parameters, checks, coefficients on a time grid, and element."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastlam.kernels.brownian import brownian


class Process:
    """What every diffusion is: float fields, `x0` among them, and an element that makes one step of one path.

    A subclass is a frozen dataclass. It sets `step`, an `@njit(inline="always")` function
    `step(x, z, coefficients) -> x`, and says in `coefficients` what that takes at each step. Its fields are checked to
    be finite real numbers.
    """

    step: ClassVar[Callable[..., Any]]
    n_coefficients: ClassVar[int]
    x0: float

    def __post_init__(self) -> None:
        for field, value in list(vars(self).items()):
            object.__setattr__(self, field, self._number(field, value))

    def coefficients(self, dt: np.ndarray) -> np.ndarray:
        """What `step` takes for steps of length `dt` (m,): shape (m, n_coefficients), float64."""
        raise NotImplementedError

    def _number(self, field: str, value: Any) -> float:
        name = f"{type(self).__name__}: {field}"
        if getattr(value, "requires_grad", False):
            raise TypeError(f"{name} requires grad, but paths carry no gradient in it: pass {field}.item()")
        try:
            if isinstance(value, (str, bytes, bool, np.bool_)):
                raise TypeError
            number = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{name} must be one real number, but is {value!r}") from None
        if not math.isfinite(number):
            raise ValueError(f"{name} must be finite, but is {number}")
        return number


@dataclass(frozen=True)
class Brownian(Process):
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

    step = staticmethod(brownian)
    n_coefficients = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma < 0:
            raise ValueError(f"Brownian: sigma must be at least 0, but is {self.sigma}")

    def coefficients(self, dt: np.ndarray) -> np.ndarray:
        """Drift and scale of each step: (mu dt, sigma sqrt(dt))."""
        return np.stack([self.mu * dt, self.sigma * np.sqrt(dt)], axis=1)
