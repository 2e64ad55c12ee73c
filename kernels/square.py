"""f(x) = x**2, as an element. Its factor lam stays outside the sum. Spec: fastlam.reference.mean_square."""

from numba import njit

from .floats import fma, product


@njit(inline="always")
def square(x, parameters):
    """Return f."""
    return product(x, x)


@njit(inline="always")
def add_square(total, x, parameters):
    """Return total + f(x), rounded once: what a sum over paths takes."""
    return fma(x, x, total)


@njit(inline="always")
def square_slope(x, parameters):
    """Return the slope of f."""
    return x + x
