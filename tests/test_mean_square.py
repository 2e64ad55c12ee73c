"""mean_square in value: against reference.py, on every layout, index and lam; its bits; its errors."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastlam
from fastlam import reference, rows, threads

# Around the lanes (128), leaves (1024), folds of leaves (4096) and blocks (16384) of the reduction tree.
SIZES = [1, 2, 7, 8, 127, 128, 129, 1023, 1024, 1025, 4095, 4097, 16383, 16384, 16385, 3 * 16384 + 5]
LEADING = [(), (1,), (3,), (2, 3), (2, 1, 3), (2, 1, 2, 1)]
# float64: at most 21 additions deep here and 30 in NumPy's pairwise sum, each within 1.1e-16, all terms positive.
# float32: lam, the mean, and their product are each rounded once, within 6e-8.
TOLERANCE = {"float32": 2e-7, "float64": 1e-14}
DTYPE = pytest.mark.parametrize("dtype", ["float32", "float64"])
KIND = pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])


def normals(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def bits(array):
    """Shape, dtype and bytes: what two answers must share to be the same."""
    array = np.asarray(array)
    return array.shape, array.dtype, array.tobytes()


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
    """Large means, where float32 sums stall: the exact mean of a repeated pattern, within DESIGN's 1e-12."""
    pattern = (np.float32(3000.1) + np.arange(1000, dtype=np.float32) * np.float32(1e-3)).astype(np.float32)
    n = 2**27
    x = np.resize(pattern, (1, n))
    counts = [n // 1000 + (i < n % 1000) for i in range(1000)]
    exact = sum(count * Fraction(float(value)) ** 2 for count, value in zip(counts, pattern, strict=True)) / n
    error = abs(Fraction(float(rows.array_means(x)[0])) - exact) / exact
    assert error <= 1e-12
    assert fastlam.mean_square(x)[0] == np.float32(float(exact))


def byte_rows(x):
    """Rows one byte further apart than their length."""
    m, row = x.shape[0], x[0].nbytes
    buffer = np.zeros((m, row + 1), np.uint8)
    buffer[:, :row] = x.reshape(m, -1).view(np.uint8)
    return np.ndarray(x.shape, x.dtype, buffer, strides=(row + 1, *x.strides[1:]))


def read_only(x):
    x.flags.writeable = False
    return x


ARRAY_LAYOUTS = {
    "fortran": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2),
    "axes swapped": lambda x: x.swapaxes(0, 1),
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every second path": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "part of each row": lambda x: np.pad(x, [(0, 0), (0, 0), (3, 4)])[..., 3:-4],
    "rows backwards": lambda x: x[::-1],
    "paths backwards": lambda x: x[..., ::-1],
    "all backwards": lambda x: x[::-1, ::-1, ::-1],
    "expanded rows": lambda x: np.broadcast_to(x[:1], x.shape),
    "expanded paths": lambda x: np.broadcast_to(x[..., :1], x.shape),
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "read-only": read_only,
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "rows unaligned": byte_rows,
    "one path": lambda x: x[..., 5:6],
}
TENSOR_LAYOUTS = {
    "permuted": lambda x: x.permute(1, 2, 0),
    "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "every second row": lambda x: x[::2],
    "every second path": lambda x: x[..., ::2],
    "part of each row": lambda x: x[..., 3:-4],
    "expanded rows": lambda x: x[:1].expand(x.shape),
    "expanded paths": lambda x: x[..., :1].expand(x.shape),
    "negated lazily": torch._neg_view,
    "conjugate's imaginary part": lambda x: torch.complex(x, -x).conj().imag,
    "one path": lambda x: x[..., 5:6],
}


@pytest.fixture
def small_slabs(monkeypatch):
    """So that what is copied takes several slabs, the last one shorter."""
    monkeypatch.setattr(rows, "SLAB_BYTES", 2**17)


@DTYPE
@pytest.mark.usefixtures("small_slabs")
@pytest.mark.parametrize("layout", ARRAY_LAYOUTS.values(), ids=ARRAY_LAYOUTS)
@pytest.mark.parametrize("index", [None, np.array([4, 0, -1, 0, 2, 2])], ids=["all", "index"])
def test_array_layouts(layout, index, dtype):
    view = layout(normals(5, 3, 2 * 16384 + 70, dtype=dtype))
    plain = np.array(view, dtype, order="C")
    index = None if index is None else index % len(view)
    assert bits(fastlam.mean_square(view, 0.5, index=index)) == bits(fastlam.mean_square(plain, 0.5, index=index))


@DTYPE
@pytest.mark.usefixtures("small_slabs")
@pytest.mark.parametrize("layout", TENSOR_LAYOUTS.values(), ids=TENSOR_LAYOUTS)
@pytest.mark.parametrize("index", [None, torch.tensor([2, 0, -1, 0])], ids=["all", "index"])
def test_tensor_layouts(layout, index, dtype):
    """Answers with and without a graph, and gradients in x, of full shape where x is expanded."""
    view = layout(torch.as_tensor(normals(5, 3, 2 * 16384 + 70, dtype=dtype)))
    plain = view.clone(memory_format=torch.contiguous_format).resolve_neg()
    answers = []
    for x in (view.detach(), plain):
        alone = fastlam.mean_square(x, 0.5, index=index)
        answer = fastlam.mean_square(x.requires_grad_(), 0.5, index=index)
        assert torch.equal(alone, answer)
        weight = torch.arange(1.0, 1 + answer.numel(), dtype=answer.dtype).reshape(answer.shape)
        answers.append((bits(answer.detach()), bits(torch.autograd.grad(answer, x, weight)[0])))
    assert answers[0] == answers[1]


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


def test_inputs_are_not_written():
    x, lam, index = torch.as_tensor(normals(4, 3000)), torch.as_tensor(normals(3)), torch.tensor([0, -1, -1])
    before = bits(x), bits(lam), bits(index)
    answer = fastlam.mean_square(x.requires_grad_(), lam.requires_grad_(), index=index).sum()
    for create_graph in (True, False):
        torch.autograd.grad(answer, (x, lam), create_graph=create_graph)
    assert (bits(x.detach()), bits(lam.detach()), bits(index)) == before


@pytest.fixture
def set_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


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


@st.composite
def views(draw):
    """An array of random shape, cut with random steps, its axes in random order."""
    shape = [*draw(st.lists(st.integers(1, 5), max_size=3)), draw(st.integers(1, 3000))]
    base = normals(*shape, dtype=draw(st.sampled_from(["float32", "float64"])), seed=draw(st.integers(0, 2**32)))
    steps = [draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in shape]
    return base[tuple(slice(None, None, step) for step in steps)].transpose(draw(st.permutations(range(len(shape)))))


@settings(deadline=None, derandomize=True, max_examples=150)
@given(views(), st.floats(-10, 10))
def test_any_view(x, lam):
    answer = fastlam.mean_square(x, lam)
    # lam below float32's normal range loses its own digits: at most one step of the subnormal numbers times the mean.
    np.testing.assert_allclose(answer, reference.mean_square(x, lam), rtol=TOLERANCE[x.dtype.name], atol=1e-43)
    if min(x.strides) > 0:  # torch has no negative strides
        assert bits(fastlam.mean_square(torch.as_tensor(x), lam)) == bits(answer)
