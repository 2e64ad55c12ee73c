"""The standard error of a mean, as an element: of sums that both targets make."""

import math

from numba import njit

from .selection import positive


@njit(inline="always")
def standard_error(squares, mean, n):
    """Of the mean of n values, from the sum of their squares and their mean, about any point. Of one alone NaN.

    >>> round(standard_error(1.0 + 4.0 + 9.0, 2.0, 3.0), 9)  # 1, 2, 3
    0.577350269
    """
    others = n - 1.0 if n > 1.0 else math.nan
    return math.sqrt(positive(squares - n * (mean * mean)) / others / n)
