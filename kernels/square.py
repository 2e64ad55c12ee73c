"""f(x; lam) = lam * x**2, as an element: value and slopes at one point. Spec: fastlam.reference.mean_square."""

from numba import njit

from .floats import fma


@njit(inline="always")
def square(x, lam):
    """Return f, its slope in x, and its slopes in the parameters."""
    return lam * (x * x), (lam + lam) * x, (x * x,)


@njit(inline="always")
def add_square(total, x):
    """Return total + f(x; 1), rounded once: what a sum over paths takes."""
    return fma(x, x, total)
