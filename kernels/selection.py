"""Comparisons as elements, for any float type: NaN flows through, and nothing branches."""

from numba import njit


@njit(inline="always")
def positive(x):
    """Return x where it is above 0, else 0; NaN stays.

    >>> positive(-2.0), positive(3.0)
    (0.0, 3.0)
    """
    return type(x)(0) if x <= type(x)(0) else x


@njit(inline="always")
def step(x):
    """Return 1 where x is above 0, else 0, in its type; NaN stays.

    >>> step(-2.0), step(0.0), step(3.0)
    (0.0, 0.0, 1.0)
    """
    y = type(x)(1) if x > type(x)(0) else type(x)(0)
    return y if x == x else x


@njit(inline="always")
def maximum(a, b):
    """The larger of two of one type, b where they are equal; NaN where either is.

    >>> maximum(1.0, 2.0)
    2.0
    """
    larger = a if a > b else b
    return larger if a == a else a


@njit(inline="always")
def minimum(a, b):
    """The smaller of two of one type, b where they are equal; NaN where either is.

    >>> minimum(1.0, 2.0)
    1.0
    """
    smaller = a if a < b else b
    return smaller if a == a else a


@njit(inline="always")
def where_positive(u, value):
    """The value where u is above 0, else 0, even where the value is not finite.

    >>> where_positive(1.0, 3.0), where_positive(0.0, float("nan"))
    (3.0, 0.0)
    """
    return value if u > type(u)(0) else type(value)(0)


@njit(inline="always")
def share_positive(u, value):
    """The value where u is above 0, half of it where u is 0, else 0, even where the value is not finite.

    >>> share_positive(1.0, 3.0), share_positive(0.0, 3.0), share_positive(-1.0, float("nan"))
    (3.0, 1.5, 0.0)
    """
    some = value if u > type(u)(0) else value * type(value)(0.5)
    return some if u >= type(u)(0) else type(value)(0)
