"""A sum of the values of an element, one at a time."""

from numba import njit

from .launch import once


@once
def adding(value):
    """add(total, x, parameters): total + value(x, parameters)."""

    @njit(inline="always")
    def add(total, x, parameters):
        return total + value(x, parameters)

    return add
