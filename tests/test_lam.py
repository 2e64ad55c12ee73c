"""What mean_square takes as lam, and what it makes of it."""

import numpy as np
import pytest
import torch
from numpy_cases import DTYPE, KIND, bits, normals

import fastlam

LAMS = {
    "float": 0.3,
    "int": 2,
    "NumPy scalar": np.float64(0.3),
    "NumPy integer": np.int32(2),
    "0-d": np.array(0.3),
    "(1,)": np.array([0.3]),
    "(1, 1)": np.array([[0.3]]),
    "(m,)": np.array([0.3, -1.0, 2.0]),
    "(k, 1)": np.array([[0.3], [2.0]]),
    "(k, m)": np.arange(6.0).reshape(2, 3),
    "float32": np.array([0.3, -1.0, 2.0], np.float32),
    "integers": np.array([0, -1, 2]),
}


@KIND
@DTYPE
@pytest.mark.parametrize("lam", LAMS.values(), ids=LAMS)
def test_lam(lam, dtype, kind):
    """In the dtype of x, times the mean, rounded once: for numbers, arrays and tensors alike."""
    x = normals(2, 3, 40, dtype=dtype)
    mean = fastlam.mean_square(x)
    want = bits(np.broadcast_to(np.asarray(lam, dtype) * mean, (2, 3)))
    assert bits(fastlam.mean_square(kind(x), lam)) == want
    value, grad = fastlam.mean_square_value_and_grad(kind(x), lam)
    assert (bits(value), bits(grad)) == (want, bits(mean))
    if kind is torch.as_tensor:
        assert bits(fastlam.mean_square(kind(x), torch.as_tensor(np.asarray(lam)))) == want


class Share(float):
    """A number of one's own."""


@KIND
@pytest.mark.parametrize("lam", [2**53, 2**64, -(2**1000), Share(0.3), np.longdouble(0.3), np.uint64(2**63)], ids=repr)
def test_lam_of_rare_types(lam, kind):
    """As the float64 nearest to it: the product is rounded once, as that of plain floats."""
    x = normals(3, 4)
    assert bits(fastlam.mean_square(kind(x), lam)) == bits(float(lam) * fastlam.mean_square(x))


@KIND
@pytest.mark.parametrize("lam", [1e300, np.float64(1e300), np.array([1e300, -1e300, 1e300])], ids=str)
def test_lam_beyond_float32(lam, kind):
    """Infinite without a warning, as values of x beyond float32 are."""
    answer = fastlam.mean_square(kind(np.ones((3, 4), np.float32)), lam)
    np.testing.assert_array_equal(answer, np.sign(lam) * np.full(3, np.inf, np.float32))


@KIND
@pytest.mark.parametrize(("x", "lam", "want"), [(1e15, 1e30, np.inf), (1e30, 0.0, np.nan), (0.0, np.inf, np.nan)])
def test_answer_beyond_float32(x, lam, want, kind):
    """Without a warning too."""
    x = kind(np.full((3, 4), x, np.float32))
    np.testing.assert_array_equal(fastlam.mean_square(x, lam), np.float32(want))
    np.testing.assert_array_equal(fastlam.mean_square_value_and_grad(x, lam)[0], np.float32(want))


@KIND
@pytest.mark.parametrize("shape", [(2,), (1, 3), (3, 1), (3, 3), (1, 1, 3), (0,)])
def test_lam_that_would_change_the_answers_shape(shape, kind):
    for function in (fastlam.mean_square, fastlam.mean_square_value_and_grad):
        with pytest.raises(ValueError, match=r"lam has shape .* does not broadcast to the answer's \(3,\)"):
            function(kind(np.ones((3, 4))), kind(np.ones(shape)))


@KIND
@pytest.mark.parametrize("lam", ["1", None, True, 1j, [1.0], np.array(1j), np.array([True]), np.ma.ones(3)], ids=repr)
def test_lam_of_other_types(lam, kind):
    with pytest.raises(TypeError, match="lam"):
        fastlam.mean_square(kind(np.ones((3, 4))), lam)


def test_lam_tensor_needs_x_tensor():
    """Or its gradient would be lost in silence."""
    for function in (fastlam.mean_square, fastlam.mean_square_value_and_grad):
        with pytest.raises(TypeError, match="lam must be a number or an array of the kind of x"):
            function(np.ones((3, 4)), torch.tensor(2.0, requires_grad=True))
