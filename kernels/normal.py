"""Two uniform words to two standard normals (Box and Muller, 1958): the map of README, "The stream", to the letter."""

import numpy as np
from numba import njit

from .floats import (
    cos_sin_turns_float32,
    cos_sin_turns_float64,
    float64_of_bits,
    fma,
    minus_two_log_float32,
    minus_two_log_float64,
    product,
)
from .root import root

F32, F64 = np.float32, np.float64
I32, I64 = np.int32, np.int64
U32, U64 = np.uint32, np.uint64


@njit(inline="always")
def radius_float32(word, angle_word):
    """sqrt(-2 ln u); the angle's low byte extends u where it is small."""
    k = F32(I32(word >> U32(1)))
    half_steps = F32(I32((angle_word & U32(255)) << U32(1)) + I32(1))
    u = fma(half_steps, F32(2.0**-9), k)  # times 2**-31: (k + (byte + 1/2) / 256), the product being exact
    return root(minus_two_log_float32(u, -31))


@njit(inline="always")
def radius_float64(word):
    """sqrt(-2 ln u), u = ((word >> 12) + 1/2) / 2**52."""
    u = float64_of_bits(I64(word >> U64(12)) | I64(0x3FF0000000000000)) - F64(1 - 2.0**-53)
    return root(minus_two_log_float64(u))


@njit(inline="always")
def normals_float32(radius_word, angle_word):
    """z_even and z_odd of two uint32 words."""
    radius = radius_float32(radius_word, angle_word)
    x, y = cos_sin_turns_float32(angle_word)
    return product(radius, x), product(radius, y)  # which a process may add to its state


@njit(inline="always")
def normals_float64(radius_word, angle_word):
    """z_even and z_odd of two uint64 words."""
    radius = radius_float64(radius_word)
    x, y = cos_sin_turns_float64(angle_word)
    return product(radius, x), product(radius, y)  # which a process may add to its state


@njit(inline="always")
def words_float64(r0, r1, r2, r3):
    """The radius word and the angle word of a block of four 32-bit words."""
    return U64(r0) | (U64(r1) << U64(32)), U64(r2) | (U64(r3) << U64(32))


def make_sign(dtype):
    """sign(path): what the noise of one of two antithetic paths is multiplied by, -1 for an odd one."""
    real = getattr(np, dtype)

    @njit(inline="always")
    def sign(path):
        return real(1) - real(2) * real(I32(path & U64(1)))

    return sign
