"""The root of radii: on the CPU its own; what makes one of a GPU's reciprocal, by the same arithmetic on the CPU."""

import math

import numpy as np
import pytest
from numba import njit, types
from numba.extending import intrinsic

from fastlam.kernels.floats import float32_of_bits
from fastlam.kernels.root import ROOTS, root

ONE, FOUR = (int(np.float32(value).view(np.int32)) for value in (1, 4))


@intrinsic
def finished(typingctx, x, reciprocal):
    """What a GPU makes of a reciprocal."""
    return x(x, reciprocal), lambda context, builder, signature, arguments: ROOTS[x][1](builder, *arguments)


@njit
def wrong_float32(first, stop):
    """How many of the float32 with these bits have another root, of reciprocals that are rounded correctly."""
    wrong = 0
    for bits in range(first, stop):
        x = float32_of_bits(np.int32(bits))
        right = np.float32(math.sqrt(np.float64(x)))
        reciprocal = np.float32(1 / math.sqrt(np.float64(x)))
        wrong += (finished(x, reciprocal) != right) + (root(x) != right)
    return wrong


@njit
def wrong_float64(xs, off):
    """How many of these have another root, of reciprocals that are off by a part."""
    wrong = 0
    for x in xs:
        right = math.sqrt(x)
        wrong += (finished(x, (1 + off) / right) != right) + (root(x) != right)
    return wrong


def test_every_float32():
    """Those from 1 to 4 stand for all, by powers of 4."""
    assert wrong_float32(ONE, FOUR) == 0
    assert wrong_float32(ONE - 2**23 * 40, ONE - 2**23 * 40 + 2**16) == 0


def test_zero():
    """A GPU's reciprocal of it is made 2**20; the sign stays."""
    answers = [finished_float32(np.float32(zero), np.float32(2**20)) for zero in (0.0, -0.0)]
    assert np.array(answers, np.float32).tobytes() == np.array([0.0, -0.0], np.float32).tobytes()


@njit
def finished_float32(x, reciprocal):
    return finished(x, reciprocal)


@pytest.mark.parametrize("off", [0, 2.0**-20, -(2.0**-20), 2.0**-21, -(2.0**-22)])
def test_float64(off):
    """A million numbers in [1, 4), and the ends of the squares of radii; a GPU's own reciprocal is off by less."""
    fractions = np.random.default_rng(1).integers(2**52, size=2**19, dtype=np.int64)
    ends = np.arange(2**10, dtype=np.int64)
    words = [(1023 << 52) | fractions, (1024 << 52) | fractions, (970 << 52) + ends, (1029 << 52) - ends]
    assert wrong_float64(np.concatenate(words).view(np.float64), off) == 0


def test_other_types_are_refused():
    with pytest.raises(Exception, match="root takes a float32 or a float64, not int64"):
        njit(types.int64(types.int64))(lambda x: root(x))
