"""What is seen of a path: here the state itself."""

from numba import njit


@njit(inline="always")
def identity(x):
    """Return x."""
    return x
