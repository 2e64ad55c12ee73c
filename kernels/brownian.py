"""dX = mu dt + sigma dW, as an element: one exact step of one path. Spec: fastlam.reference.simulate."""

import math

from numba import njit

from .floats import fma


@njit(inline="always")
def brownian(x, z, coefficients):
    """Return x after a step with normal z."""
    drift, scale = coefficients
    return x + fma(scale, z, drift)


@njit(inline="always")
def brownian_coefficients(t, dt, parameters):
    """Return (mu dt, sigma sqrt(dt)) of the step from t to t + dt."""
    mu, sigma = parameters
    return mu * dt, sigma * math.sqrt(dt)
