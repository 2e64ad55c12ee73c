"""dX = mu X dt + sigma X dW, as an element: one exact step of one path. Spec: fastlam.reference.simulate."""

import math

from numba import njit

from .exponential import exp
from .floats import fma, product


@njit(inline="always")
def geometric_brownian(x, z, coefficients):
    """Return x exp((mu - sigma**2 / 2) dt + sigma sqrt(dt) z)."""
    drift, scale = coefficients
    return product(x, exp(fma(scale, z, drift)))


@njit(inline="always")
def geometric_brownian_coefficients(t, dt, parameters):
    """Return ((mu - sigma**2 / 2) dt, sigma sqrt(dt)) of the step from t to t + dt."""
    mu, sigma = parameters
    return fma(sigma, -sigma / 2, mu) * dt, sigma * math.sqrt(dt)
