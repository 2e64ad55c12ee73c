"""The formula in plain torch, with which ours is compared, and what both are tried on."""

import torch
from torch import func
from torch.utils._pytree import tree_leaves

import fastlam

INDEX = torch.tensor([0, 2, 2, -1])
# Both sides add up to 70 terms of order one in some order: a hundred roundings at most, and usually one or two.
TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-14, "atol": 1e-14}}


def plain(x, lam, index=None):
    return lam * ((x if index is None else x[index]) ** 2).mean(-1)


def fused(x, lam, index=None):
    return fastlam.mean_square(x, lam, index=index)


def normals(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def leaves(*tensors):
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def same(got, want):
    """Equal trees of tensors, to the tolerance of their dtype."""
    got, want = tree_leaves(got), tree_leaves(want)
    assert len(got) == len(want) > 0
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[b.dtype], equal_nan=True)


X, LAM = normals(3, 4), torch.tensor(0.3, dtype=torch.float64)
LAMS = {"()": LAM, "(1,)": LAM.reshape(1), "(m,)": normals(3, seed=1)}
BATCH = normals(3, 2, 4, seed=2)
INDICES = torch.tensor([[0, 1], [2, 2]])


def total(f, index=None):
    return lambda x, lam: f(x, lam, index).square().sum()


TRANSFORMS = {
    "grad": lambda f: func.grad(total(f), (0, 1))(X, LAM),
    "grad index": lambda f: func.grad(total(f, INDEX), (0, 1))(X, LAM),
    "grad of grad": lambda f: func.grad(lambda x: func.grad(total(f))(x, LAM).square().sum())(X),
    "grad in lam of grad in x": lambda f: func.grad(lambda lam: func.grad(total(f))(X, lam).square().sum())(LAM),
    "vmap x": lambda f: func.vmap(f, (1, None))(BATCH, LAM),
    "vmap x last": lambda f: func.vmap(f, (-1, None), -1)(BATCH, LAM),
    "vmap x index": lambda f: func.vmap(lambda x: f(x, LAM, INDEX), 1)(BATCH),
    "vmap rows": lambda f: func.vmap(f, (0, None))(X, LAM),
    "vmap lam": lambda f: func.vmap(f, (None, 0))(X, LAMS["(m,)"]),
    "vmap index": lambda f: func.vmap(f, (None, None, 0))(X, LAM, INDICES),
    "vmap index last": lambda f: func.vmap(f, (None, None, 1))(X, LAM, INDICES),
    "vmap x and index": lambda f: func.vmap(f, (1, None, 0))(BATCH, LAM, INDICES),
    "vmap all": lambda f: func.vmap(f, (1, 0, 0))(BATCH, LAMS["(m,)"][:2], INDICES),
    "vmap of vmap": lambda f: func.vmap(func.vmap(f, (None, None, 0)), (0, 0, None))(BATCH, LAMS["(m,)"], INDICES % 2),
    "vmap of grad": lambda f: func.vmap(func.grad(total(f), (0, 1)), (1, None))(BATCH, LAM),
    "vmap of grad index": lambda f: func.vmap(func.grad(lambda x, i: f(x, LAM, i).sum()), (None, 0))(X, INDICES),
    "jvp": lambda f: func.jvp(f, (X, LAM), (X + 1, LAM + 1)),
    "jvp index": lambda f: func.jvp(lambda x: f(x, LAM, INDEX), (X,), (X + 1,)),
    "jvp of grad": lambda f: func.jvp(func.grad(total(f, INDEX), (0, 1)), (X, LAM), (X + 1, LAM + 1)),
    "grad of jvp": lambda f: func.grad(lambda x: func.jvp(total(f), (x, LAM), (X + 1, LAM))[1])(X),
    "vjp": lambda f: func.vjp(f, X, LAM)[1](LAMS["(m,)"]),
    "jacrev": lambda f: func.jacrev(f, (0, 1))(X, LAM, INDEX),
    "jacfwd": lambda f: func.jacfwd(f, (0, 1))(X, LAM, INDEX),
    "hessian": lambda f: func.hessian(total(f, INDEX), (0, 1))(X, LAM),
    "third": lambda f: func.jacfwd(func.hessian(total(f)))(X[:2], LAM),
    "autograd of func": lambda f: torch.autograd.grad(func.grad(total(f))(*(i := leaves(X, LAM))).square().sum(), i),
}
