"""mean_square of x wherever it lies in memory: the same bits as of its plain copy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_cases import DTYPE, TOLERANCE, bits, normals, read_only

import fastlam
from fastlam import reference, rows


def byte_rows(x):
    """Rows one byte further apart than their length."""
    m, row = x.shape[0], x[0].nbytes
    buffer = np.zeros((m, row + 1), np.uint8)
    buffer[:, :row] = x.reshape(m, -1).view(np.uint8)
    return np.ndarray(x.shape, x.dtype, buffer, strides=(row + 1, *x.strides[1:]))


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


def test_inputs_are_not_written():
    x, lam, index = torch.as_tensor(normals(4, 3000)), torch.as_tensor(normals(3)), torch.tensor([0, -1, -1])
    before = bits(x), bits(lam), bits(index)
    answer = fastlam.mean_square(x.requires_grad_(), lam.requires_grad_(), index=index).sum()
    for create_graph in (True, False):
        torch.autograd.grad(answer, (x, lam), create_graph=create_graph)
    assert (bits(x.detach()), bits(lam.detach()), bits(index)) == before


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
