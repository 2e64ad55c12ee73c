"""The exponential, and the exponential minus one over x, as elements: the same bits on every target.

x = n ln 2 + r with n whole, so that exp(x) = 2**n (1 + d), d = exp(r) - 1 = r + r**2 TAIL(r) (Cody and Waite, 1980). In
`exp` no product feeds a sum unless `fma` says so: there is nothing that a compiler could contract. Each polynomial
interpolates at the Chebyshev nodes of its range; tests/test_exponential.py computes the coefficients anew.
"""

import math

import numpy as np
from numba import njit

from .floats import bits_of_float, float_of_bits, fma, horner, of_type, product

F32, F64 = np.float32, np.float64

# (exp(r) - 1 - r) / r**2, in r over [-ln 2 / 2, ln 2 / 2].
TAIL_FLOAT32 = tuple(F32(c) for c in (
    0.5, 0.16666667, 0.041666467, 0.0083333105, 0.0013933642, 0.00019890981,
))  # fmt: skip
TAIL_FLOAT64 = tuple(F64(c) for c in (
    0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333326141, 0.0013888888888883752, 0.00019841269874800493,
    2.4801587325533363e-05, 2.7557255425746435e-06, 2.7557273661348637e-07, 2.510520637395701e-08,
    2.0914679376583935e-09,
))  # fmt: skip
# The same in r over [-WIDE, WIDE].
WIDE = F64(2)
WIDE_TAIL_FLOAT64 = tuple(F64(c) for c in (
    0.5, 0.16666666666666666, 0.04166666666666663, 0.008333333333333331, 0.0013888888888891197, 0.00019841269841270936,
    2.4801587300995483e-05, 2.7557319223705004e-06, 2.755731930001314e-07, 2.505210842152821e-08,
    2.087675150417348e-09, 1.6059041233681633e-10, 1.147097775321909e-11, 7.647273957195198e-13,
    4.7737580214960735e-14, 2.8087409252747675e-15, 1.6376126325516946e-16, 8.580357849794261e-18,
))  # fmt: skip

# Each constant for float32 and for float64. LN_2_LOW is what LN_2 cuts off.
TAIL = TAIL_FLOAT32, TAIL_FLOAT64
LOG2_E = F32(1 / math.log(2)), F64(1 / math.log(2))
LN_2 = F32(math.log(2)), F64(math.log(2))
LN_2_LOW = F32(-1.9046542e-09), F64(2.3190468138462996e-17)
REACH = F32(106), F64(748)  # beyond it exp is 0 or inf, and exprel(REACH) is inf
ONE, HALF = (F32(1), F64(1)), (F32(0.5), F64(0.5))
ROUND = F32(1.5 * 2**23), F64(1.5 * 2**52)  # (y + ROUND) - ROUND is y rounded to a whole number
BIASED = F32(1.5 * 2**23 + 127), F64(1.5 * 2**52 + 1023)  # n + BIASED has n's exponent field as its last bits
FRACTION_WIDTH = 23, 52


@njit(inline="always")
def _power_of_two(n):
    """2**n for a whole n whose power is a normal number."""
    return float_of_bits(type(bits_of_float(n))(bits_of_float(n + of_type(n, BIASED)) << of_type(n, FRACTION_WIDTH)))


@njit(inline="always")
def _reduced(x):
    """Return d and whole numbers a, b: exp(x) = (1 + d) 2**a 2**b, |d| < 0.42; 2**a, 2**b, 2**-b are normal numbers."""
    x = of_type(x, REACH) if x > of_type(x, REACH) else x
    x = -of_type(x, REACH) if x < -of_type(x, REACH) else x
    n = fma(x, of_type(x, LOG2_E), of_type(x, ROUND)) - of_type(x, ROUND)
    high = fma(-n, of_type(x, LN_2), x)  # exact
    low = -n * of_type(x, LN_2_LOW)  # kept apart, as r = high + low is rounded where it is large
    r = fma(-n, of_type(x, LN_2_LOW), high)
    a = fma(n, of_type(x, HALF), of_type(x, ROUND)) - of_type(x, ROUND)
    return high + fma(r * r, horner(r, of_type(x, TAIL)), low), a, n - a


@njit(inline="always")
def exp(x):
    """e**x of a float32 or float64, in its type: within 1 unit in the last place, also where it is subnormal.

    exp(0) is 1; inf, -inf and NaN as in IEEE 754. Called from Python it takes and gives float64:

    >>> exp(0.0), exp(-math.inf)
    (1.0, 0.0)
    """
    d, a, b = _reduced(x)
    return product((of_type(x, ONE) + d) * _power_of_two(a), _power_of_two(b))  # 2**(a + b) alone may overflow


@njit(inline="always")
def exprel(x):
    """(e**x - 1) / x of a float64, 1 at 0: within 3 units in the last place.

    >>> exprel(0.0), exprel(-math.inf)
    (1.0, 0.0)
    """
    if x == F64(0):
        return F64(1)
    if x > REACH[1]:
        return F64(math.inf)
    d, a, b = _reduced(x)
    less_one = fma(d, _power_of_two(a), _power_of_two(a) - _power_of_two(-b))  # (e**x - 1) / 2**b
    return less_one / x * _power_of_two(b)


@njit(inline="always")
def exprel_slope(x):
    """The derivative of `exprel` at a float64, 1/2 at 0: within 4 units in the last place; inf where exprel is.

    >>> exprel_slope(0.0)
    0.5
    """
    if abs(x) <= WIDE:
        return exp(x) * horner(-x, WIDE_TAIL_FLOAT64)  # = e**x (e**-x - 1 + x) / x**2, without its cancellation
    if x < F64(0):
        return (exp(x) - exprel(x)) / x
    return fma(exprel(x), F64(1) - F64(1) / x, F64(1) / x)  # the same; no overflow before exprel's
