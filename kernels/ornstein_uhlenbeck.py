"""dX = theta (mu - X) dt + sigma dW, as an element: one exact step of one path. Spec: fastlam.reference.simulate.

Source: Uhlenbeck and Ornstein, 1930; Gillespie, Phys. Rev. E 54 (1996) for the step of any length.
"""

import math

from numba import njit

from .exponential import exp, exprel
from .floats import fma


@njit(inline="always")
def ornstein_uhlenbeck(x, z, coefficients):
    """Return decay x + pull + scale z."""
    decay, pull, scale = coefficients
    return fma(decay, x, fma(scale, z, pull))


@njit(inline="always")
def ornstein_uhlenbeck_coefficients(t, dt, parameters):
    """Return (e, mu (1 - e), sigma sqrt((1 - e**2) / (2 theta))), e = exp(-theta dt): by exprel, near theta = 0 too."""
    theta, mu, sigma = parameters
    decay = -theta * dt
    return exp(decay), -mu * (decay * exprel(decay)), sigma * math.sqrt(dt * exprel(2 * decay))
