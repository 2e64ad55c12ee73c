"""mean_square under torch.autograd, against the same formula in torch."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import func
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn.functional import mse_loss
from torch.utils.checkpoint import checkpoint
from torch_cases import INDEX, LAM, LAMS, TOLERANCE, X, fused, leaves, normals, plain, same

# torch's own forward-mode AD still goes through torch.jit, on its first use in a process.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

INDEXED_LAMS = {"()": LAM, "(1,)": LAM.reshape(1), "(k,)": normals(4, seed=1)}
CASES = [(None, lam) for lam in LAMS.values()] + [(INDEX, lam) for lam in INDEXED_LAMS.values()]
CASE = pytest.mark.parametrize(("index", "lam"), CASES, ids=[*LAMS, *(f"{name} index" for name in INDEXED_LAMS)])


@CASE
def test_gradcheck(index, lam):
    def function(x, lam):
        return fused(x, lam, index)

    inputs = leaves(X, lam)
    forward = {"check_forward_ad": True, "check_batched_forward_grad": True}
    assert gradcheck(function, inputs, **forward, check_batched_grad=True)
    assert gradgradcheck(function, inputs, check_fwd_over_rev=True, check_rev_over_rev=True, check_batched_grad=True)


@CASE
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("needs", [(True, False), (False, True), (True, True)], ids=["x", "lam", "both"])
def test_gradients_of_what_needs_them(index, lam, dtype, needs):
    gradients = []
    for function in (fused, plain):
        inputs = [
            tensor.to(dtype, copy=True).requires_grad_(need) for tensor, need in zip((X, lam), needs, strict=True)
        ]
        function(*[tensor.clone() for tensor in inputs], index).square().sum().backward()
        assert [tensor.grad is not None for tensor in inputs] == list(needs)
        gradients.append([tensor.grad for tensor in inputs if tensor.grad is not None])
    same(*gradients)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_higher_derivatives(dtype):
    """d2/dx2 = 2 lam/n, d2/dxdlam = 2x/n, d3/dx2dlam = 2/n, and what is zero exactly so, in closed form."""
    x, lam = leaves(normals(5, dtype=dtype), LAM.to(dtype))
    value = fused(x, lam).squeeze()

    def gradient(y, *of):
        return torch.autograd.grad(y, of, create_graph=True, materialize_grads=True)

    in_x, in_lam = gradient(value, x, lam)
    same((in_x, in_lam), (2 * lam / 5 * x, x.square().mean()))
    in_xx, in_x_lam = gradient(in_x[2], x, lam)
    same((in_xx, in_x_lam), (2 * lam / 5 * torch.eye(5, dtype=dtype)[2], 2 * x[2] / 5))
    in_lam_x, in_lam_lam = gradient(in_lam, x, lam)
    same(in_lam_x, 2 * x / 5)
    in_xxx, in_xx_lam = gradient(in_xx[2], x, lam)
    same(in_xx_lam, torch.tensor(0.4, dtype=dtype))
    assert not in_lam_lam
    assert not in_xxx.any()


@pytest.mark.parametrize("index", [None, INDEX], ids=["all", "index"])
def test_forward_over_backward_of_a_graph_made_before(index):
    """A tangent that enters through the output's gradient goes through, or is refused: it is not lost in silence."""
    tangents = []
    for function in (fused, plain):
        (x,) = leaves(X)
        value = function(x, 2.0, index)
        with forward_ad.dual_level():
            weight = forward_ad.make_dual(torch.ones_like(value), torch.arange(1.0, 1 + len(value), dtype=value.dtype))
            (gradient,) = torch.autograd.grad(value, x, weight)
            tangents.append(forward_ad.unpack_dual(gradient).tangent)
    same(*tangents)


@pytest.mark.parametrize("vectorize", [False, True])
def test_functional_jacobian_and_hessian(vectorize):
    for transform in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian):
        got, want = (
            transform(lambda x, lam: f(x, lam, INDEX).square().sum(), (X, LAM), vectorize=vectorize)  # noqa: B023
            for f in (fused, plain)
        )
        same(got, want)


def test_graphs_that_are_not_wanted():
    (x, lam) = leaves(X, LAM)
    with torch.no_grad():
        assert not fused(x, lam).requires_grad
    with torch.inference_mode():
        assert fused(x, lam).is_inference()
        frozen = X.clone()
    assert not fused(x.detach(), lam.detach()).requires_grad
    fused(frozen, lam).sum().backward()  # lam still learns from a tensor that inference made
    same(lam.grad, X.square().mean(-1).sum())


def test_autocast_leaves_it_alone():
    x, lam = leaves(X.float(), LAM.float())
    outside = fused(x, lam)
    with torch.autocast("cpu", torch.bfloat16):
        inside = fused(x, lam)
        assert torch.equal(inside, outside)
        torch.testing.assert_close(func.jvp(fused, (x, lam), (x, lam))[1], 3 * outside)
    assert inside.dtype == torch.float32


@pytest.mark.parametrize("which", ["x", "index"])
def test_what_changed_before_backward_raises(which):
    (x,), index = leaves(X), INDEX.clone()
    value = fused(x, 1.0, index).sum()
    with torch.no_grad():
        (x if which == "x" else index).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@pytest.mark.parametrize("index", [None, INDEX], ids=["all", "index"])
def test_backward_from_several_threads(index):
    x, lam = leaves(normals(16, 40_000), LAM)  # enough for our own threads to join
    value = fused(x, lam, index).sum()

    def gradients(_):
        return torch.autograd.grad(value, (x, lam), retain_graph=True)

    want = gradients(None)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(gradients, range(16)):
            assert all(map(torch.equal, got, want))


def test_part_of_a_larger_model():
    """With x = net(noise), with and without checkpointing: every weight's gradient."""
    net, lam = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 20)).double(), LAM.clone()
    lam.requires_grad_()

    def gradients(reduce):
        loss = mse_loss(reduce(net(normals(5, 6)), lam), normals(5, seed=3))
        return torch.autograd.grad(loss, [*net.parameters(), lam])

    want = gradients(plain)
    same(gradients(fused), want)
    same(gradients(lambda x, lam: checkpoint(fused, x, lam, use_reentrant=False)), want)
