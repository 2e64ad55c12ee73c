"""simulate_mean under torch.func and forward-mode AD; second derivatives: raised in parameters, right in lam."""

import pytest
import torch
from simulate_mean_cases import TORCH_TIMES, leaf, mean_square
from torch import func
from torch.autograd import forward_ad

import fastlam

# torch's own forward-mode AD still goes through torch.jit, on its first use in a process.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
MU, SIGMA, LAM = (torch.tensor(value, dtype=torch.float64) for value in (0.3, 0.7, 0.5))
MUS = torch.linspace(-1, 1, 4, dtype=torch.float64)
ONE = torch.ones((), dtype=torch.float64)


def k(mu, sigma=SIGMA, lam=LAM):
    return mean_square(fastlam.Brownian(mu, sigma, 1.5), lam=lam)


def loss(mu, sigma=SIGMA, lam=LAM):
    return k(mu, sigma, lam).square().sum()


def backward(f, *values):
    """(value, gradients) of the sum of f, by torch.autograd alone."""
    inputs = [value.detach().clone().requires_grad_() for value in values]
    value = f(*inputs)
    return value.detach(), torch.autograd.grad(value.sum(), inputs)


def jacobian():
    """Of k in mu, by a backward for each time."""
    mu = leaf(0.3)
    return torch.stack([torch.autograd.grad(value, mu, retain_graph=True)[0] for value in k(mu)])


def same(got, want):
    """Both sides add the same few numbers in some order: ten roundings of 1.1e-16, of sums of which a tenth is left."""
    torch.testing.assert_close(got, want, rtol=1e-14, atol=0)


def test_grad():
    same(func.grad(loss, (0, 1, 2))(MU, SIGMA, LAM), backward(loss, MU, SIGMA, LAM)[1])


def test_vmap():
    for in_dims, arguments in (((0,), (MUS,)), ((None, 0), (MU, MUS.abs())), ((0, 0), (MUS, MUS.abs()))):
        got = func.vmap(k, in_dims)(*arguments)
        each = zip(*[a if d == 0 else a.expand(4) for a, d in zip(arguments, in_dims, strict=True)], strict=True)
        assert torch.equal(got, torch.stack([k(*one) for one in each]))


def test_vmap_over_times_and_lam():
    grids = torch.stack([TORCH_TIMES, 2 * TORCH_TIMES])
    process = fastlam.Brownian(MU, SIGMA, 1.5)
    got = func.vmap(lambda times, lam: mean_square(process, times, lam))(grids, MUS[:2])
    assert torch.equal(got, torch.stack([mean_square(process, *one) for one in zip(grids, MUS[:2], strict=True)]))


def test_vmap_of_grad_and_grad_of_vmap():
    want = torch.stack([backward(loss, mu)[1][0] for mu in MUS])
    same(func.vmap(func.grad(loss))(MUS), want)
    same(func.grad(lambda mus: func.vmap(k)(mus).square().sum())(MUS), want)
    same(backward(lambda mus: func.vmap(loss)(mus), MUS)[1][0], want)
    same(func.vmap(func.vmap(func.grad(loss)))(MUS.reshape(2, 2)), want.reshape(2, 2))


def test_jacobians():
    want = jacobian()
    for transform in (func.jacrev, func.jacfwd):
        same(transform(k)(MU), want)
    for options in ({}, {"vectorize": True}, {"vectorize": True, "strategy": "forward-mode"}):
        same(torch.autograd.functional.jacobian(k, MU, **options), want)
    same(func.vmap(func.jacfwd(k))(MU.expand(2)), want.expand(2, 3))


def test_forward_mode():
    value, tangent = func.jvp(k, (MU,), (2 * ONE,))
    assert torch.equal(value, k(MU))
    same(tangent, 2 * jacobian())
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(k(forward_ad.make_dual(MU, 2 * ONE)))
        assert torch.equal(dual.primal, value)
        assert torch.equal(dual.tangent, tangent)


def test_vjp():
    _, pull = func.vjp(k, MU)
    weight = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    same(pull(weight)[0], (jacobian() * weight).sum())


def test_functional_call():
    """A module whose forward simulates, by torch.func's way of training."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mu = torch.nn.Parameter(torch.tensor(0.0, dtype=torch.float64))

        def forward(self):
            return loss(self.mu)

    same(func.grad(lambda mu: func.functional_call(Model(), {"mu": mu}, ()))(MU), backward(loss, MU)[1][0])


def graph_of_backward():
    mu = leaf(0.3)
    (slope,) = torch.autograd.grad(loss(mu), mu, create_graph=True)
    return torch.autograd.grad(slope, mu)


def penalty_on_the_gradient():
    mu = leaf(0.3)
    (slope,) = torch.autograd.grad(loss(mu), mu, create_graph=True)
    (loss(mu) + slope**2).backward()


def reverse_over_dual():
    mu = leaf(0.3)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(k(forward_ad.make_dual(mu, ONE))).tangent
        return torch.autograd.grad(tangent.sum(), mu)


SECOND = {
    "grad of grad": lambda: func.grad(func.grad(loss))(MU),
    "grad of grad of a sum": lambda: func.grad(func.grad(lambda mu: k(mu).sum()))(MU),
    "mixed": lambda: func.grad(func.grad(loss), 1)(MU, SIGMA),
    "hessian": lambda: func.hessian(loss)(MU),
    "hessian of two": lambda: func.hessian(loss, (0, 2))(MU, SIGMA, LAM),
    "jacfwd of jacfwd": lambda: func.jacfwd(func.jacfwd(k))(MU),
    "jacrev of jacfwd": lambda: func.jacrev(func.jacfwd(k))(MU),
    "jacfwd of jacrev": lambda: func.jacfwd(func.jacrev(k))(MU),
    "jacrev of jacrev": lambda: func.jacrev(func.jacrev(k))(MU),
    "jvp of jvp": lambda: func.jvp(lambda mu: func.jvp(k, (mu,), (ONE,))[1], (MU,), (ONE,)),
    "vmap of grad of grad": lambda: func.vmap(func.grad(func.grad(loss)))(MUS),
    "autograd's hessian": lambda: torch.autograd.functional.hessian(loss, MU),
    "autograd's vectorized hessian": lambda: torch.autograd.functional.hessian(loss, MU, vectorize=True),
    "graph of the backward": graph_of_backward,
    "penalty on the gradient": penalty_on_the_gradient,
    "reverse over dual": reverse_over_dual,
}


@pytest.mark.parametrize("second", SECOND.values(), ids=SECOND)
def test_second_derivative_in_a_parameter(second):
    """Raised, never a zero."""
    with pytest.raises(NotImplementedError, match="first order: a second derivative in parameters of a simulation"):
        second()


def test_second_derivatives_in_lam():
    """Of k, which is lam times what lam is not in."""
    mean = k(MU, lam=ONE)
    assert torch.equal(func.hessian(lambda lam: k(MU, lam=lam))(LAM), torch.zeros(3, dtype=torch.float64))
    want = 2 * mean.square().sum()
    same(func.hessian(lambda lam: loss(MU, lam=lam))(LAM), want)
    lam = leaf(0.5)
    (slope,) = torch.autograd.grad(loss(leaf(0.3), lam=lam), lam, create_graph=True)
    same(torch.autograd.grad(slope, lam)[0], want)


def test_mixed_derivative_in_lam_and_a_parameter():
    """d2 k / dlam dmu = (d k / dmu) / lam, either first, forward and reverse."""
    want = jacobian() / LAM

    def of_both(mu, lam):
        return k(mu, lam=lam)

    for first, second in ((0, 1), (1, 0)):
        for outer in (func.jacfwd, func.jacrev):
            for inner in (func.jacfwd, func.jacrev):
                same(outer(inner(of_both, first), second)(MU, LAM), want)
        inputs = leaf(0.3), leaf(0.5)
        (slope,) = torch.autograd.grad(of_both(*inputs).sum(), inputs[first], create_graph=True)
        same(torch.autograd.grad(slope, inputs[second])[0], want.sum())
