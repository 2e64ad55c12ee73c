"""dX = mu dt + sigma dW, as an element: one exact step of one path. Spec: fastlam.reference.simulate."""

from numba import njit

from .floats import fma


@njit(inline="always")
def brownian(x, z, coefficients):
    """Return x after a step with normal z; coefficients: (mu dt, sigma sqrt(dt))."""
    drift, scale = coefficients
    return x + fma(scale, z, drift)
