"""mean_square under the transforms of torch.func, against the same formula in torch."""

import numpy as np
import pytest
import torch
from torch import func
from torch_cases import LAM, TRANSFORMS, X, fused, leaves, plain, same, total

import fastlam

# torch's own forward-mode AD still goes through torch.jit, on its first use in a process.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transform(transform):
    same(transform(fused), transform(plain))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("kind", [torch.as_tensor, lambda index: index], ids=["torch", "numpy"])
def test_index_dtypes(dtype, kind):
    """Positions, though torch reads a uint8 index as a mask: they stay so in every derivative."""
    index = kind(np.array([0, 1, 0], dtype))
    second = lambda f, i: func.grad(lambda x: func.grad(total(f, i))(x, LAM).square().sum())(X)  # noqa: E731
    same(second(fused, index), second(plain, torch.tensor([0, 1, 0])))
    (x,) = leaves(X)
    (graph,) = torch.autograd.grad(total(fused, index)(x, LAM), x, create_graph=True)
    same(graph, func.grad(total(plain, torch.tensor([0, 1, 0])))(X, LAM))


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize(
    "transform",
    [
        lambda f, x: func.vmap(f, (0, None))(x, LAM),
        lambda f, x: func.grad(lambda x: f(x, LAM).sum())(x),
        lambda f, x: func.jvp(lambda x: f(x, LAM), (x,), (X,)),
    ],
    ids=["vmap", "grad", "jvp"],
)
def test_odd_values_under_transforms(transform, odd):
    """NaN, infinity and overflow come out as they do from torch, in value and derivative."""
    x = X.clone()
    x[1, 1] = odd
    same(transform(fused, x), transform(plain, x))


def test_squares_beyond_float32_under_transforms():
    """A square of 4e38 is no float32, its mean over 1000 paths is: eager and transformed answers are the same."""
    x = torch.zeros(1, 1000)
    x[0, 3] = 2e19
    want = fused(x, 2.0)
    assert want.isfinite()
    assert torch.equal(func.vmap(fused, (0, None))(x, 2.0), want)
    value, tangent = func.jvp(lambda x: fused(x, 2.0), (x,), (torch.ones_like(x),))
    same((value, tangent), (want, 4 * x.mean(-1)))


def test_bad_index_under_transforms():
    for index in (torch.tensor([3]), torch.tensor([-4])):
        with pytest.raises(IndexError, match="but x has 3 rows"):
            func.grad(total(fused, index))(X, LAM)
        with pytest.raises(IndexError, match="but x has 3 rows"):
            func.vmap(fused, (None, None, 0))(X, LAM, torch.stack([index, index]))


def test_functional_call():
    model = fastlam.LambdaModel(dtype=torch.float64)
    loss = lambda lam, k: (func.functional_call(model, {"lam": lam}, (X,)) - k).square().sum()  # noqa: E731
    want = func.grad(lambda lam: (plain(X, lam) - 1).square().sum())(LAM)
    same(func.grad(loss)(LAM, torch.ones(3)), want)
    assert model.lam.item() == 0
