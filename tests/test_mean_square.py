"""mean_square in value: against reference.py; its bits, for any number of threads; what of x it refuses."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy_cases import DTYPE, KIND, TOLERANCE, bits, normals

import fastlam
from fastlam import reference, rows, threads

# Around the lanes (128), leaves (1024), folds of leaves (4096) and blocks (16384) of the reduction tree.
SIZES = [1, 2, 7, 8, 127, 128, 129, 1023, 1024, 1025, 4095, 4097, 16383, 16384, 16385, 3 * 16384 + 5]
LEADING = [(), (1,), (3,), (2, 3), (2, 1, 3), (2, 1, 2, 1)]


@DTYPE
@pytest.mark.parametrize("n", SIZES)
def test_reference(n, dtype):
    for leading in LEADING:
        x = normals(*leading, n, dtype=dtype, seed=n)
        want = reference.mean_square(x, -0.3)
        for answer in (fastlam.mean_square(x, -0.3), fastlam.mean_square(torch.as_tensor(x), -0.3)):
            np.testing.assert_allclose(answer, want, rtol=TOLERANCE[dtype])


@DTYPE
@pytest.mark.parametrize("n", SIZES)
def test_gradients(n, dtype):
    """As above in x, elementwise; in lam the gradient's own product adds a rounding to the mean's."""
    for leading in LEADING[1:]:
        x = torch.as_tensor(normals(*leading, n, dtype=dtype, seed=n)).requires_grad_()
        lam = torch.as_tensor(normals(*leading, dtype=dtype, seed=1)).requires_grad_()
        weight = torch.as_tensor(normals(*leading, dtype=dtype, seed=2))
        fastlam.mean_square(x, lam).backward(weight)
        in_x, in_lam = reference.mean_square_grad(x.detach().numpy(), lam.detach().numpy(), weight.numpy())
        np.testing.assert_allclose(x.grad, in_x, rtol=TOLERANCE[dtype])
        np.testing.assert_allclose(lam.grad, in_lam, rtol=TOLERANCE[dtype])


@KIND
@DTYPE
@pytest.mark.parametrize("leading", LEADING)
def test_shape_kind_and_dtype(leading, dtype, kind):
    x = kind(np.ones((*leading, 5), dtype))
    for answer in (fastlam.mean_square(x, 2.0), *fastlam.mean_square_value_and_grad(x)):
        assert tuple(answer.shape) == leading
        assert answer.dtype == x.dtype
        assert isinstance(answer, torch.Tensor) == isinstance(x, torch.Tensor)


@pytest.mark.parametrize("n", SIZES)
def test_bits_of_the_tree(n):
    """Squares of float32 values are exact in float64, so the kernel's fma(x, x, total) is total + x**2."""
    x = normals(3, n, dtype="float32", seed=n)
    want = np.array([reference.tree_sum(row.astype(np.float64) ** 2) / n for row in x])
    assert bits(rows.array_means(x, None, "float64")) == bits(want)
    assert bits(fastlam.mean_square(x.astype(np.float64))) == bits(want)
    assert bits(fastlam.mean_square(x)) == bits(want.astype(np.float32))


def test_terms_are_added_with_one_rounding():
    """Two elements of one lane: total = fma(x, x, total), where rounding the square first gives another answer."""
    x = np.zeros(129)
    x[0], x[128] = 1.1, 0.9
    first, second = (Fraction(x[i]) ** 2 for i in (0, 128))
    want = float(second + Fraction(float(first)))
    assert want != float(second) + float(first)
    assert fastlam.mean_square(x) == want / 129


def test_a_hundred_million_paths():
    """Large means, where float32 sums stall: the exact mean of a repeated pattern, within README's 1e-12."""
    pattern = (np.float32(3000.1) + np.arange(1000, dtype=np.float32) * np.float32(1e-3)).astype(np.float32)
    n = 2**27
    x = np.resize(pattern, (1, n))
    counts = [n // 1000 + (i < n % 1000) for i in range(1000)]
    exact = sum(count * Fraction(float(value)) ** 2 for count, value in zip(counts, pattern, strict=True)) / n
    error = abs(Fraction(float(rows.array_means(x)[0])) - exact) / exact
    assert error <= 1e-12
    assert fastlam.mean_square(x)[0] == np.float32(float(exact))


@KIND
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_means_beyond_float32(layout, kind):
    """x**2 of 1e60 is a float64; its mean, as float32, is infinite without a warning in either layout."""
    x = np.full((4, 4), 1e30, np.float32)
    answer = fastlam.mean_square(kind(x.T if layout == "transposed" else x))
    assert bits(answer) == bits(np.full(4, np.inf, np.float32))


@KIND
@pytest.mark.parametrize("order", ["C", "F"])
def test_nan_and_infinity_stay_in_their_row(kind, order):
    x = normals(5, 5000, dtype="float32")
    clean = fastlam.mean_square(x)
    x[1, 4999], x[2, 130], x[3, 0] = np.nan, np.inf, -np.inf
    answer = np.asarray(fastlam.mean_square(kind(np.array(x, order=order))))
    np.testing.assert_array_equal(answer[1:4], np.array([np.nan, np.inf, np.inf], np.float32))
    assert bits(answer[[0, 4]]) == bits(clean[[0, 4]])


@DTYPE
@pytest.mark.parametrize("shape", [(64, 200_001), (1, 6_000_001)])
def test_bits_for_any_number_of_threads(shape, dtype, set_threads, monkeypatch):
    calls, call = [], threads._call_helpers
    monkeypatch.setattr(threads, "_call_helpers", lambda job, count: calls.extend([job] * count) or call(job, count))
    x = torch.as_tensor(normals(*shape, dtype=dtype)).requires_grad_()
    answers = set()
    for count in (1, 2, 3, 7):
        set_threads(count)
        calls.clear()
        answer = fastlam.mean_square(x, 0.5)
        slopes = torch.autograd.grad(answer.sum(), x)[0]
        assert len(calls) == 2 * (count - 1)  # large enough to be shared with helpers, both ways
        answers.add((bits(answer.detach()), bits(slopes)))
    assert len(answers) == 1


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex64", "float16"])
@KIND
def test_dtypes_refused(dtype, kind):
    with pytest.raises(TypeError, match="must be float32 or float64"):
        fastlam.mean_square(kind(np.ones((3, 4), dtype)))


@pytest.mark.parametrize(
    "x",
    [torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(2, 3).to_sparse(), [[1.0]], np.ma.ones((2, 3)),
     np.ones((2, 3), object)],
    ids=["bfloat16", "sparse", "list", "masked", "object"],
)  # fmt: skip
def test_kinds_refused(x):
    with pytest.raises(TypeError, match="mean_square: x"):
        fastlam.mean_square(x)


@KIND
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 3)])
def test_shapes_refused(shape, kind):
    with pytest.raises(ValueError, match="x must have at least one element and one axis"):
        fastlam.mean_square(kind(np.ones(shape)))
