"""A sum of the values of an element, one at a time."""

from functools import lru_cache

from numba import njit


@lru_cache(maxsize=256)
def adding(value):
    """add(total, x, parameters): total + value(x, parameters)."""

    @njit(inline="always")
    def add(total, x, parameters):
        return total + value(x, parameters)

    return add
