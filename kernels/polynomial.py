"""f(x) = sum_p c_p (x - a)**p, as an element, by Horner's rule. Spec: fastlam.reference.polynomial."""

from numba import njit

from .floats import horner


@njit(inline="always")
def polynomial(x, parameters):
    """Return f; parameters: (a, c_0, c_1, ...)."""
    return horner(x - parameters[0], parameters[1:])
