"""Arithmetic that gives the same bits on every target: explicit fma, bit casts, polynomials.

A product and a sum are contracted only where `fma` says so, so that no compiler has a choice to make. Each polynomial
interpolates its function at the Chebyshev nodes of its range; tests/test_normal.py computes the coefficients anew.
"""

import math

import numpy as np
from numba import TypingError, njit, types
from numba.extending import intrinsic

F32, F64 = np.float32, np.float64
I32, I64 = np.int32, np.int64
U32, U64 = np.uint32, np.uint64


@intrinsic
def fma(typingctx, a, b, c):
    """A * b + c, rounded once; three operands of one float type."""
    if not (a == b == c and a in (types.float32, types.float64)):
        raise TypingError(f"fma takes three float32 or three float64, not {a}, {b}, {c}")
    return a(a, b, c), lambda context, builder, signature, arguments: builder.fma(*arguments)


@intrinsic
def product(typingctx, a, b):
    """A * b, rounded, but 0 for -0: an element's last operation, so that no compiler joins it to a sum outside.

    It is an fma with 0. With -0 it would be the product exactly, and LLVM would make a plain product of it again.
    """
    if not (a == b and a in (types.float32, types.float64)):
        raise TypingError(f"product takes two float32 or two float64, not {a}, {b}")

    def codegen(context, builder, signature, arguments):
        return builder.fma(*arguments, context.get_constant(signature.return_type, 0.0))

    return a(a, b), codegen


@intrinsic
def of_type(typingctx, x, constants):
    """The one of two constants, for float32 and for float64, that is for x's type."""
    if x not in (types.float32, types.float64):
        raise TypingError(f"an element takes float32 or float64, not {x}")
    place = (types.float32, types.float64).index(x)

    def codegen(context, builder, signature, arguments):
        return builder.extract_value(arguments[1], place)

    return constants[place](x, constants), codegen


def _bit_cast(targets):
    @intrinsic
    def cast(typingctx, value):
        target = targets.get(value)
        if target is None:
            raise TypingError(f"this bit cast takes {' or '.join(map(str, targets))}, not {value}")

        def codegen(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return target(value), codegen

    return cast


bits_of_float32 = _bit_cast({types.float32: types.int32})
float32_of_bits = _bit_cast({types.int32: types.float32})
bits_of_float64 = _bit_cast({types.float64: types.int64})
float64_of_bits = _bit_cast({types.int64: types.float64})
bits_of_float = _bit_cast({types.float32: types.int32, types.float64: types.int64})
float_of_bits = _bit_cast({types.int32: types.float32, types.int64: types.float64})


@intrinsic
def horner(typingctx, x, coefficients):
    """sum_p coefficients[p] * x**p as a chain of fma, written out; coefficients: a tuple of x's type."""
    if not isinstance(coefficients, types.UniTuple) or coefficients.dtype != x:
        raise TypingError(f"horner takes a tuple of {x}, not {coefficients}")

    def codegen(context, builder, signature, arguments):
        x, coefficients = arguments
        value = builder.extract_value(coefficients, signature.args[1].count - 1)
        for p in range(signature.args[1].count - 2, -1, -1):
            value = builder.fma(value, x, builder.extract_value(coefficients, p))
        return value

    return x(x, coefficients), codegen


@njit(inline="always")
def float64_of_int(i):
    """An int64 below 2**51 in size as float64, without the 64-bit conversion that AVX2 lacks."""
    return float64_of_bits(i + I64(0x4338000000000000)) - F64(1.5 * 2**52)


# -2 ln(1 + f) / f, in f over [sqrt(1/2) - 1, sqrt(2) - 1]: centred on 1, for accuracy where it vanishes.
MINUS_TWO_LOG_FLOAT32 = tuple(F32(c) for c in (
    -2.0, 0.99999994, -0.66668385, 0.50002706, -0.39911866, 0.33155987, -0.29954803, 0.28538516, -0.17066626,
))  # fmt: skip
MINUS_TWO_LOG_FLOAT64 = tuple(F64(c) for c in (
    -2.0, 1.0000000000000009, -0.6666666666666549, 0.49999999999948835, -0.40000000000298075, 0.3333333334276902,
    -0.2857142854679557, 0.2499999920293727, -0.2222222283781287, 0.20000036448570924, -0.18181835946175365,
    0.16665701566474267, -0.1538319708645514, 0.1430052425647147, -0.13368592354392742, 0.12380119660018091,
    -0.11333381271392991, 0.11415224425211042, -0.1305179874506874, 0.11848299954906649, -0.05097982360081115,
))  # fmt: skip

# sin(pi/4 t) / t and cos(pi/4 t), in t**2 over [0, 1].
SIN_FLOAT32 = tuple(F32(c) for c in (
    0.7853982, -0.080745436, 0.0024900069, -3.595429e-05,
))  # fmt: skip
SIN_REST_FLOAT32 = (F32(-2.4276526e-08), *SIN_FLOAT32[1:])  # the first: what float32 cuts off SIN_FLOAT32[0]
COS_FLOAT32 = tuple(F32(c) for c in (
    1.0, -0.30842513, 0.015854338, -0.0003259614, 3.5419528e-06,
))  # fmt: skip
SIN_FLOAT64 = tuple(F64(c) for c in (
    0.7853981633974483, -0.08074551218828054, 0.002490394570188844, -3.657620415891387e-05, 3.133616225433416e-07,
    -1.7571500746983935e-09, 6.877360573166326e-12,
))  # fmt: skip
COS_FLOAT64 = tuple(F64(c) for c in (
    1.0, -0.30842513753404227, 0.0158543442438019, -0.00032599188676870125, 3.5908597712602535e-06,
    -2.461006226754435e-08, 1.1384778780982284e-10,
))  # fmt: skip

SQRT_HALF_BITS_32 = I32(np.array(0.5**0.5, F32).view(I32))
SQRT_HALF_BITS_64 = I64(np.array(0.5**0.5, F64).view(I64))
FRACTION_BITS_32 = I32(2**23 - 1)
FRACTION_BITS_64 = I64(2**52 - 1)
MINUS_TWO_LOG_2_32 = F32(-2 * math.log(2))
MINUS_TWO_LOG_2_64 = F64(-2 * math.log(2))


@njit(inline="always")
def minus_two_log_float32(x, exponent):
    """-2 ln(x * 2**exponent) for a normal positive x: x = 2**e (1 + f), the polynomial in f, the exponents apart."""
    bits = I32(bits_of_float32(x) - SQRT_HALF_BITS_32)
    e = I32(I32(bits >> I32(23)) + I32(exponent))
    f = float32_of_bits(I32(I32(bits & FRACTION_BITS_32) + SQRT_HALF_BITS_32)) - F32(1)
    return fma(F32(e), MINUS_TWO_LOG_2_32, f * horner(f, MINUS_TWO_LOG_FLOAT32))


@njit(inline="always")
def minus_two_log_float64(x):
    """-2 ln(x) for a normal positive x."""
    bits = bits_of_float64(x) - SQRT_HALF_BITS_64
    e = bits >> I64(52)
    f = float64_of_bits((bits & FRACTION_BITS_64) + SQRT_HALF_BITS_64) - F64(1)
    return fma(float64_of_int(e), MINUS_TWO_LOG_2_64, f * horner(f, MINUS_TWO_LOG_FLOAT64))


@njit(inline="always")
def cos_sin_turns_float32(word):
    """Cosine and sine of word / 2**32 turns. The nearest quarter turn is taken off in integers, exactly."""
    t = F32(I32(word << U32(2))) * F32(2.0**-31)
    q = t * t
    cos = horner(q, COS_FLOAT32)
    sin = fma(t, SIN_FLOAT32[0], t * horner(q, SIN_REST_FLOAT32))  # rounded once where it is large
    quarters = U32(word + U32(2**29))
    odd = (quarters & U32(2**30)) != U32(0)
    x, y = (sin, cos) if odd else (cos, sin)
    x_sign = I32(U32(quarters ^ U32(quarters << U32(1))) & U32(2**31))
    y_sign = I32(quarters & U32(2**31))
    return float32_of_bits(I32(bits_of_float32(x) ^ x_sign)), float32_of_bits(I32(bits_of_float32(y) ^ y_sign))


@njit(inline="always")
def cos_sin_turns_float64(word):
    """Cosine and sine of (word >> 11) / 2**53 turns, word being read as signed; likewise."""
    whole = U64(word) & ~U64(2**11 - 1)
    t = float64_of_int(I64(whole << U64(2)) >> I64(13)) * F64(2.0**-50)
    q = t * t
    cos, sin = horner(q, COS_FLOAT64), t * horner(q, SIN_FLOAT64)
    quarters = whole + U64(2**61)
    odd = (quarters & U64(2**62)) != U64(0)
    x, y = (sin, cos) if odd else (cos, sin)
    x_sign = I64((quarters ^ (quarters << U64(1))) & U64(2**63))
    y_sign = I64(quarters & U64(2**63))
    return float64_of_bits(bits_of_float64(x) ^ x_sign), float64_of_bits(bits_of_float64(y) ^ y_sign)
