"""positive, step, maximum, minimum: every pairing of the values that differ in kind, in both types."""

import itertools
import math

import numpy as np
import pytest
from numba import njit, types

from fastlam.kernels.selection import maximum, minimum, positive, step

VALUES = [-math.inf, -1.5, -1e-45, -0.0, 0.0, 1e-45, 1.0, math.inf, math.nan]
REAL = pytest.mark.parametrize("real", [np.float32, np.float64])


@REAL
def test_positive(real):
    values = np.array(VALUES, real)
    in_kernel = njit(lambda x: positive(x))
    np.testing.assert_array_equal([in_kernel(x) for x in values], np.maximum(values, 0))


@REAL
def test_step(real):
    values = np.array(VALUES, real)
    in_kernel = njit(lambda x: step(x))
    np.testing.assert_array_equal([in_kernel(x) for x in values], np.heaviside(values, 0))


@REAL
@pytest.mark.parametrize(("element", "exact"), [(maximum, np.maximum), (minimum, np.minimum)])
def test_maximum_and_minimum(real, element, exact):
    in_kernel = njit(lambda a, b: element(a, b))
    for a, b in itertools.product(np.array(VALUES, real), repeat=2):
        np.testing.assert_array_equal(in_kernel(a, b), exact(a, b))


def test_equal_numbers_give_the_second():
    for element, (a, b) in itertools.product([maximum, minimum], [(0.0, -0.0), (-0.0, 0.0)]):
        assert math.copysign(1, element(a, b)) == math.copysign(1, b)


@pytest.mark.parametrize("real", [types.float32, types.float64], ids=str)
@pytest.mark.parametrize("element", [positive, step, maximum, minimum])
def test_answer_is_of_the_type_of_x(element, real):
    in_kernel = njit(lambda x: element(x)) if element in (positive, step) else njit(lambda x: element(x, x))
    in_kernel.compile((real,))
    assert in_kernel.nopython_signatures[0].return_type == real
