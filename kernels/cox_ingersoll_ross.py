"""dX = kappa (theta - X) dt + sigma sqrt(X) dW, as an element: a step of the full-truncation Euler scheme.

The state may fall below 0, from where the drift brings it back; what is seen is its positive part.
Source: Lord, Koekkoek and van Dijk, Quantitative Finance 10 (2010). Spec: fastlam.reference.simulate.
"""

import math

from numba import njit

from .floats import fma
from .selection import positive


@njit(inline="always")
def cox_ingersoll_ross(x, z, coefficients):
    """Return x + kappa dt (theta - p) + sigma sqrt(dt) sqrt(p) z with p = max(x, 0)."""
    pull, theta, scale = coefficients
    p = positive(x)
    return x + fma(scale * math.sqrt(p), z, pull * (theta - p))


@njit(inline="always")
def cox_ingersoll_ross_coefficients(t, dt, parameters):
    """Return (kappa dt, theta, sigma sqrt(dt)) of the step from t to t + dt."""
    kappa, theta, sigma = parameters
    return kappa * dt, theta, sigma * math.sqrt(dt)


@njit(inline="always")
def seen(x):
    """Return the positive part of the state."""
    return positive(x)
