"""Powers with any exponent as an element: the same bits on every target."""

from numba import njit

from .exponential import exp
from .logarithm import log


@njit(inline="always")
def power(x, p):
    """x**p as exp(p log(x)), in their type: 1 for p = 0; else NaN for x below 0, 0 or infinity for x = 0.

    Called from Python it takes and gives float64:

    >>> power(4.0, 0.0), power(0.0, 0.6)
    (1.0, 0.0)
    """
    y = exp(p * log(x))
    return type(x)(1) if p == type(p)(0) else y
