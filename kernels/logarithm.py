"""The natural logarithm as an element: the same bits on every target.

x = 2**e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), so that log(x) = e ln 2 + log(1 + f), centred on 1 for accuracy
where it vanishes; log(1 + f) = f + f**2 TAIL(f). No product feeds a sum unless `fma` says so. The polynomials
interpolate at the Chebyshev nodes of the range; tests/test_exponential.py computes the coefficients anew.
"""

import math

import numpy as np
from numba import njit

from .exponential import FRACTION_WIDTH, LN_2, LN_2_LOW, ONE
from .floats import (
    FRACTION_BITS_32,
    FRACTION_BITS_64,
    SQRT_HALF_BITS_32,
    SQRT_HALF_BITS_64,
    bits_of_float,
    float_of_bits,
    fma,
    horner,
    of_type,
)

F32, F64 = np.float32, np.float64
I32, I64 = np.int32, np.int64

# (log(1 + f) - f) / f**2, in f over [sqrt(1/2) - 1, sqrt(2) - 1].
TAIL_FLOAT32 = tuple(F32(c) for c in (
    -0.49999997, 0.3333333, -0.2500078, 0.20001234, -0.16626646, 0.14204855, -0.13127555, 0.12722673, -0.07673641,
))  # fmt: skip
TAIL_FLOAT64 = tuple(F64(c) for c in (
    -0.5, 0.3333333333333326, -0.24999999999992914, 0.2000000000003205, -0.16666666668629757, 0.1428571428268799,
    -0.1249999978954668, 0.11111111107647632, -0.10000011277649974, 0.09090921328672855, -0.0833299913609137,
    0.076916546465268, -0.07148420480023412, 0.06682375886233116, -0.062025600107261776, 0.05686585537339873,
    -0.05669643772565927, 0.06444421108963665, -0.0594377125876568, 0.026259864395059444,
))  # fmt: skip

# Each constant for float32 and for float64.
TAIL = TAIL_FLOAT32, TAIL_FLOAT64
ZERO, INF, NAN = (F32(0), F64(0)), (F32(math.inf), F64(math.inf)), (F32(math.nan), F64(math.nan))
SMALLEST_NORMAL = F32(2.0**-126), F64(2.0**-1022)
LIFT = F32(2.0**32), F64(2.0**64)  # makes a subnormal normal
SQRT_HALF_BITS, FRACTION_BITS = (SQRT_HALF_BITS_32, SQRT_HALF_BITS_64), (FRACTION_BITS_32, FRACTION_BITS_64)
FROM_SQRT_HALF_TO_ONE = I32(0x3F800000) - SQRT_HALF_BITS_32, I64(0x3FF0000000000000) - SQRT_HALF_BITS_64
WHOLE_BITS = I32(0x4B000000), I64(0x4330000000000000)  # of 2**23, 2**52: adding k to them adds k to the number
BIAS, LIFTED_BIAS = (F32(2**23 + 127), F64(2**52 + 1023)), (F32(2**23 + 127 + 32), F64(2**52 + 1023 + 64))


@njit(inline="always")
def log(x):
    """Natural logarithm of a float32 or float64, in its type: within 1.5 units in the last place, for subnormals too.

    log(1) is 0; 0 gives -inf, less gives NaN. Called from Python it takes and gives float64:

    >>> log(1.0), log(0.0)
    (0.0, -inf)
    """
    small = x < of_type(x, SMALLEST_NORMAL)
    bits = bits_of_float(x * of_type(x, LIFT) if small else x)
    integer = type(bits)
    shifted = integer(bits + of_type(x, FROM_SQRT_HALF_TO_ONE))  # its exponent field is that of 2**e
    field = integer(integer(shifted >> of_type(x, FRACTION_WIDTH)) + of_type(x, WHOLE_BITS))
    e = float_of_bits(field) - (of_type(x, LIFTED_BIAS) if small else of_type(x, BIAS))
    fraction = integer(integer(shifted & of_type(x, FRACTION_BITS)) + of_type(x, SQRT_HALF_BITS))
    f = float_of_bits(fraction) - of_type(x, ONE)
    log_of_fraction = fma(f * f, horner(f, of_type(x, TAIL)), f)
    y = fma(e, of_type(x, LN_2), fma(e, of_type(x, LN_2_LOW), log_of_fraction))
    y = y if x < of_type(x, INF) else of_type(x, INF)
    below = -of_type(x, INF) if x == of_type(x, ZERO) else of_type(x, NAN)  # and at NaN
    return y if x > of_type(x, ZERO) else below
