"""A diffusion whose elements answer in float64 where they are given float32: 0.1 is one, and so is its product."""

from dataclasses import dataclass
from typing import Any

from numba import njit

import fastlam


@njit(inline="always")
def step(x, z, coefficients):
    decay, scale = coefficients
    return x * (1.0 - 0.1 * decay) + 0.5 * z * scale


@njit(inline="always")
def coefficients(t, dt, parameters):
    rate, sigma = parameters
    return rate * dt, sigma * dt**0.5


@njit(inline="always")
def observe(x):
    return 0.1 * x


@dataclass(frozen=True)
class Wide(fastlam.Process):
    rate: Any
    sigma: Any
    x0: Any = 1.0
    step, coefficients, observe = staticmethod(step), staticmethod(coefficients), staticmethod(observe)
    n_coefficients, nonnegative = 2, ("sigma",)
