"""Powers with any exponent as an element: the same bits on every target."""

from numba import njit

from .exponential import exp
from .logarithm import log


@njit(inline="always")
def power(x, p):
    """x**p as exp(p log(x)), in their type: NaN for x below 0, 0 to a power above 0 is 0.

    Called from Python it takes and gives float64:

    >>> power(4.0, 0.0), power(0.0, 0.6)
    (1.0, 0.0)
    """
    return exp(p * log(x))
