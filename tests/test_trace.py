"""What torch.jit.trace keeps of mean_square: the function of any input, and not what it was of the first."""

import warnings

import numpy as np
import pytest
import torch
from torch import func
from torch_cases import INDEX, LAM, LAMS, X, fused, leaves, normals, plain, same

import fastlam

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
OTHER = normals(6, 7, seed=5)


def value_and_grad(x, lam, index=None):
    return fastlam.mean_square_value_and_grad(x, lam, index=index)


@pytest.mark.parametrize("function", [fused, value_and_grad])
def test_trace(function):
    """Any warning of the tracer's, of something that may not hold for another input, is an error here."""
    traced = torch.jit.trace(function, (X, LAM, INDEX))
    for index in (INDEX, torch.tensor([[-6, 5]])):
        same(traced(OTHER, 2 * LAM, index), function(OTHER, 2 * LAM, index))


@pytest.mark.parametrize("first", [X, *leaves(X)], ids=["plain", "requires grad"])
@pytest.mark.parametrize("index", [None, [0, -1, 0]], ids=["all", "index"])
def test_gradients_of_a_trace(index, first):
    """Through the trace's op, whether or not its first input had one; a negative index is of the input's own rows."""
    traced = torch.jit.trace(lambda x, lam: fused(x, lam, index), (first, LAM))
    gradients = []
    for function in (traced, lambda x, lam: plain(x, lam, index)):
        x, lam = leaves(OTHER, 2 * LAM)
        (in_x, in_lam) = torch.autograd.grad(function(x, lam).square().sum(), (x, lam), create_graph=True)
        gradients.append((in_x, in_lam, *torch.autograd.grad(in_x.square().sum() + in_lam, (x, lam))))
    same(*gradients)


@pytest.mark.parametrize(
    "lam", [*LAMS.values(), LAM.float(), LAM.reshape(1, 1), 2, np.float64(0.3), np.array([2, 3, 4])], ids=repr
)
def test_trace_with_any_lam(lam):
    traced = torch.jit.trace(lambda x: fused(x, lam), X)
    same(traced(X + 1), fused(X + 1, lam))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_trace_with_an_index_of_another_dtype(dtype):
    index = torch.tensor([0, 2, 2], dtype=dtype)
    (x,) = leaves(X)
    traced = torch.jit.trace(fused, (x, LAM, index))
    same(
        torch.autograd.grad(traced(x, LAM, 1 - index % 2).sum(), x),
        func.grad(lambda x: plain(x, LAM, 1 - index.long() % 2).sum())(X),
    )


def test_trace_of_the_model():
    model = fastlam.LambdaModel(0.5, dtype=torch.float64)
    traced = torch.jit.trace(model, X)
    for f in (traced, model):
        f.zero_grad()
        f(OTHER).sum().backward()
        same(model.lam.grad, OTHER.square().mean(-1).sum())


def test_trace_of_transforms():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        batched = torch.jit.trace(func.vmap(lambda row: fused(row, 2.0)), X)
        tangent = torch.jit.trace(lambda x: func.jvp(lambda x: fused(x, 2.0), (x,), (x,))[1], X)
    same((batched(X + 1), tangent(X + 1)), (fused(X + 1, 2.0), 2 * fused(X + 1, 2.0)))


def test_bad_input_of_a_trace():
    """While it is made, in the words of the call; while it runs, in those of the op."""
    with pytest.raises(ValueError, match=r"mean_square: lam has shape \(2,\)"):
        torch.jit.trace(lambda x: fused(x, torch.ones(2)), X)
    with pytest.raises(IndexError, match="mean_square_value_and_grad: index holds 3"):
        torch.jit.trace(lambda x: value_and_grad(x, 2.0, [3]), X)
    traced = torch.jit.trace(fused, (X, LAM, INDEX))
    with pytest.raises(RuntimeError, match="IndexError: mean_square: index holds 3, but x has 3 rows"):
        traced(X, LAM, INDEX + 1)
    with pytest.raises(RuntimeError, match="TypeError: mean_square: x has dtype int64"):
        traced(X.long(), LAM, INDEX)
