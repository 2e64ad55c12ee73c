"""mean_square under the transforms of torch.func, against the same formula in torch."""

import numpy as np
import pytest
import torch
from torch import func
from torch.autograd import forward_ad
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


def test_paths_simulated_under_transforms():
    """Of nothing that is differentiated: they are what they are outside, as out too."""
    times = torch.tensor([0.5, 1.0], dtype=torch.float64)
    process, out = fastlam.Brownian(0.1, torch.tensor(0.3)), torch.empty(2, 5, dtype=torch.float64)
    x = fastlam.simulate(process, times, 5, seed=1)
    for given in (None, out):
        loss = lambda lam: fused(fastlam.simulate(process, times, 5, seed=1, out=given), lam).sum()  # noqa: E731, B023
        same(func.grad(loss)(LAM.sum()), fused(x, 1.0).sum())
        value, tangent = func.jvp(loss, (LAM.sum(),), (torch.ones_like(LAM.sum()),))
        same((value, tangent), (fused(x, LAM.sum()).sum(), fused(x, 1.0).sum()))
    assert torch.equal(out, x)


@pytest.mark.parametrize("function", [fastlam.simulate, fastlam.simulate_mean_square], ids=lambda f: f.__name__)
def test_tangents_of_times_are_refused(function):
    def total(times):
        return function(fastlam.Brownian(), times, 5, seed=1).sum()

    with pytest.raises(TypeError, match=f"{function.__name__}: times has a tangent.*pass times.detach()"):
        func.jvp(total, (THREE_TIMES,), (THREE_TIMES,))
    with forward_ad.dual_level():
        times = forward_ad.make_dual(THREE_TIMES, THREE_TIMES)
        with pytest.raises(TypeError, match=f"{function.__name__}: times has a tangent.*pass times.detach()"):
            total(times)
        assert torch.equal(total(times.detach()), total(THREE_TIMES))


def test_times_made_inside_of_a_gradient():
    def loss(lam):
        return fused(fastlam.simulate(fastlam.Brownian(), torch.ones(1), 5, seed=1), lam).sum()

    one = torch.tensor(1.0)
    assert torch.equal(func.grad(loss)(one), loss(one))


def test_fit_inside_of_a_gradient_of_something_else():
    want = fastlam.fit(X, X[:, 0], epochs=2).lam
    assert func.grad(lambda lam: lam * fastlam.fit(X, X[:, 0], epochs=2).lam)(torch.tensor(1.0)).item() == np.float32(
        want
    )


ONE_TIME, THREE_TIMES = torch.ones(1), torch.arange(1.0, 4.0)


def simulated(sigma):
    return fastlam.simulate(fastlam.Brownian(0.1, sigma), ONE_TIME, 5, seed=1).sum()


@pytest.mark.parametrize(
    ("function", "argument", "words"),
    [
        (simulated, torch.tensor(0.3), "simulate: sigma requires grad"),
        (lambda out: fastlam.simulate(fastlam.Brownian(), ONE_TIME, 5, seed=1, out=out).sum(), torch.ones(1, 5),
         "simulate: out "),
        (lambda k: torch.tensor(fastlam.fit(X, k, epochs=1).lam), torch.ones(3), "fit: k is followed by a transform"),
        (lambda x: torch.tensor(fastlam.fit(x, X[:, 0], epochs=1).lam), X, "fit: x is followed by a transform"),
        (lambda k: fastlam.calibrate(fastlam.Brownian(), THREE_TIMES, k), torch.ones(3),
         "calibrate: k is followed by a transform"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("transform", [func.grad, lambda f: lambda x: func.jvp(f, (x,), (x,))], ids=["grad", "jvp"])
def test_what_no_derivative_goes_through_is_named_under_transforms(function, argument, words, transform):
    with pytest.raises((TypeError, ValueError), match=words):
        transform(function)(argument)


@pytest.mark.parametrize("transform", [func.grad, func.jacfwd])
@pytest.mark.parametrize("answer", [0, 1], ids=["value", "grad"])
def test_value_and_grad_has_no_derivatives(transform, answer):
    """And does not pretend that they are 0."""
    lam = LAM.sum()

    def total(x, lam):
        return fastlam.mean_square_value_and_grad(x, lam)[answer].sum()

    for position in (0, 1)[: 2 - answer]:  # the derivative in lam does not depend on lam
        with pytest.raises(NotImplementedError, match="mean_square_value_and_grad carries no derivatives: call mean_s"):
            transform(total, position)(X, lam)
    want = torch.stack([total(X, lam), total(X, 2 * lam)])
    assert torch.equal(func.vmap(total, (None, 0))(X, torch.stack([lam, 2 * lam])), want)
