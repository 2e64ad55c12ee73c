"""mean_square of the rows that an index picks: the same bits as of a copy of them."""

import numpy as np
import pytest
import torch
from numpy_cases import DTYPE, KIND, TOLERANCE, bits, normals, read_only

import fastlam
from fastlam import reference

INDICES = {
    "repeats": [1, 1, 4, 1],
    "negative": [-1, 0, -5],
    "2-D": [[0, 2], [4, -4]],
    "one": [3],
    "position": 3,
}
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@KIND
@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
@pytest.mark.parametrize("shape", [(5, 700), (5, 3, 700)])
def test_index_is_indexing(index, shape, kind):
    x = normals(*shape)
    want = bits(fastlam.mean_square(np.array(x[np.asarray(index)]), 0.5))
    assert bits(fastlam.mean_square(kind(x), 0.5, index=index)) == want
    assert bits(fastlam.mean_square(kind(x), 0.5, index=np.asarray(index))) == want
    assert bits(fastlam.mean_square(kind(x), 0.5, index=torch.tensor(index))) == want


@KIND
@pytest.mark.parametrize("count", [100, 200, 300])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_index_of_any_integer_type(dtype, count, kind):
    """Also where the number of rows does not fit the index's own type."""
    index = np.array([0, 1, 99, 99], dtype)
    x = normals(count, 3)
    want = bits(fastlam.mean_square(x[index.astype(int)]))
    assert bits(fastlam.mean_square(kind(x), index=index)) == want
    assert bits(fastlam.mean_square(kind(x), index=torch.as_tensor(index))) == want


@KIND
@pytest.mark.parametrize("layout", [lambda i: i[::-1], lambda i: i.astype(">i8"), read_only, lambda i: i[::2]])
def test_index_and_lam_of_any_layout(layout, kind):
    index = layout(np.array([3, 0, 1, 1]))
    x, plain = normals(5, 70), index.astype(int).copy()
    want = bits(fastlam.mean_square(x, plain.astype(float), index=plain))
    assert bits(fastlam.mean_square(kind(x), plain.astype(float), index=index)) == want
    assert bits(fastlam.mean_square(kind(x), index, index=plain)) == want


@DTYPE
@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_index_gradients(index, dtype):
    """Rows that repeat add up, in float64 before one rounding; rows not picked have exactly zero."""
    x = normals(5, 3, 2000, dtype=dtype)
    picked = np.asarray(index)
    weight = normals(*picked.shape, 3, dtype=dtype, seed=1)
    want = np.zeros(x.shape)
    np.add.at(want, picked, reference.mean_square_grad(x[picked], 0.5, weight)[0])
    tensor = torch.as_tensor(x).requires_grad_()
    fastlam.mean_square(tensor, 0.5, index=index).backward(torch.as_tensor(weight))
    # Weights that cancel leave the error of their terms: absolute, in units of the largest.
    np.testing.assert_allclose(tensor.grad, want, rtol=0, atol=TOLERANCE[dtype] * np.abs(want).max())
    assert not tensor.grad[np.setdiff1d(np.arange(5), picked % 5)].any()


@KIND
@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ([0, 5], IndexError, "holds 5, but x has 5 rows"),
        ([-6, 0], IndexError, "holds -6, but x has 5 rows"),
        ([True, False, True, True, False], TypeError, "must hold integers, but has dtype .*bool"),
        ([0.0, 1.0], TypeError, "must hold integers, but has dtype .*float"),
        (np.zeros(0, np.int64), ValueError, "index is empty"),
    ],
)
def test_bad_index(index, error, message, kind):
    for given_index in (index, np.asarray(index), torch.as_tensor(index)):
        for function in (fastlam.mean_square, fastlam.mean_square_value_and_grad):
            with pytest.raises(error, match=message):
                function(kind(np.ones((5, 3))), index=given_index)
    with pytest.raises(ValueError, match="index picks rows"):
        fastlam.mean_square(kind(np.ones(3)), index=np.zeros(1, np.int64))
