"""simulate_mean under torch.compile: one graph, the same bits and gradients as without; what it cannot do is said."""

import numpy as np
import pytest
import torch
from simulate_mean_cases import TORCH_TIMES, leaf, mean_square, spy_on_launches
from torch import func
from torch.autograd import forward_ad

import fastlam

# torch's own: its compiler looks at what no longer may be done, its forward-mode AD goes through torch.jit.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning",
    "ignore:.*should not be instantiated:DeprecationWarning",
    "ignore:The .grad attribute of a Tensor:UserWarning",
)
POLYNOMIAL = fastlam.Polynomial([0.5, -0.2, 1.0], center=0.1)


@pytest.fixture
def compiled():
    """torch.compile without graph breaks, and without what other tests compiled."""
    torch._dynamo.reset()
    yield lambda f, **options: torch.compile(f, **{"fullgraph": True, "backend": "aot_eager"} | options)
    torch._dynamo.reset()


def k(mu, lam=0.5):
    return mean_square(fastlam.Brownian(mu, 0.7, 1.5), lam=lam)


def loss(mu, lam=0.5):
    return k(mu, lam).square().sum()


def polynomial_loss(mu, coefficients):
    process = fastlam.Brownian(mu, 0.7, 1.5)
    k = fastlam.simulate_mean(fastlam.Polynomial(coefficients), process, TORCH_TIMES, 500, seed=3)
    return k.square().sum()


def diffusion_loss(mu, sigma):
    process = fastlam.Diffusion("mu * x", "sigma * x", {"mu": mu, "sigma": sigma, "x0": 1.5})
    return fastlam.simulate_mean(POLYNOMIAL, process, TORCH_TIMES, 500, seed=3).square().sum()


def value_and_grad(f, *inputs):
    value = f(*inputs)
    return value.detach(), *torch.autograd.grad(value.sum(), inputs)


def same(got, want):
    """Same bits of values; gradients are the same numbers at three times, added in another order at most."""
    assert torch.equal(got[0], want[0])
    torch.testing.assert_close(got, want, rtol=1e-15, atol=0)  # two additions of one sign, rounded by 1.1e-16


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize(
    ("f", "second"),
    [(loss, 0.5), (polynomial_loss, [0.5, -0.2, 1.0]), (diffusion_loss, 0.2)],
    ids=lambda x: str(x)[:20],
)
def test_process_made_inside(compiled, f, second, dynamic):
    function = compiled(f, dynamic=dynamic)
    for mu in (0.3, 0.2):
        inputs = leaf(mu), leaf(second)
        same(value_and_grad(function, *inputs), value_and_grad(f, *inputs))


@pytest.mark.parametrize(
    ("functional", "make"),
    [
        (fastlam.Square(0.5), lambda mu: fastlam.Brownian(mu, 0.7, 1.5)),
        (POLYNOMIAL, lambda mu: fastlam.Brownian(mu, 0.7, 1.5)),
        (POLYNOMIAL, lambda mu: fastlam.Diffusion("mu * x", "0.2 * x", {"mu": mu, "x0": 1.5})),
    ],
    ids=["Brownian", "polynomial", "Diffusion"],
)
def test_process_made_outside(compiled, functional, make):
    """A module's process: its parameter is trained in place between calls of one graph."""
    mu = leaf(0.3)
    process = make(mu)

    def captured(scale):
        return fastlam.simulate_mean(functional, process, TORCH_TIMES, 500, seed=3) * scale

    function, scale = compiled(captured), torch.ones((), dtype=torch.float64)
    for _ in range(2):
        answers = [(k.detach(), *torch.autograd.grad(k.sum(), mu)) for k in (function(scale), captured(scale))]
        same(*answers)
        with torch.no_grad():
            mu.add_(0.1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # Inductor's own
def test_inductor(compiled):
    """Through generated code: its sums and squares are not torch's to the last bit."""
    inputs = leaf(0.3), leaf(0.5)
    got = value_and_grad(compiled(loss, backend="inductor"), *inputs)
    torch.testing.assert_close(got, value_and_grad(loss, *inputs), rtol=2e-15, atol=0)  # ten roundings of 1.1e-16


@pytest.mark.parametrize("kind", [float, int, np.float64, np.float32])
def test_numbers_as_arguments(compiled, kind):
    """Their values are not baked in, nor is the seed's."""
    function = compiled(lambda mu, seed: mean_square(fastlam.Brownian(mu, 0.7, 1.5), seed=seed))
    for value, seed in ((1, 2), (2, 3), (3, 2**64 - 1)):
        assert torch.equal(function(kind(value), seed), mean_square(fastlam.Brownian(value, 0.7, 1.5), seed=seed))


def test_times_as_arguments(compiled):
    function = compiled(lambda times: mean_square(fastlam.Brownian(0.3, 0.7, 1.5), times.sort().values))
    for times in (TORCH_TIMES, TORCH_TIMES.flip(0), torch.arange(1.0, 9.0), torch.arange(1.0, 6.0)):
        assert torch.equal(function(times), mean_square(fastlam.Brownian(0.3, 0.7, 1.5), times.sort().values))
    with pytest.raises(ValueError, match=r"strictly increasing.*sort a batch"):
        compiled(lambda times: mean_square(fastlam.Brownian(), times * 1.0))(TORCH_TIMES.flip(0))


def test_standard_errors(compiled):
    inputs = leaf(0.3), leaf([0.5, -1.0, 2.0])

    def both(mu, lam):
        return mean_square(fastlam.Brownian(mu, 0.7, 1.5), lam=lam, return_stderr=True)

    got, want = compiled(both)(*inputs), both(*inputs)
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])
    assert not got[1].requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_a_graph(compiled, mode, monkeypatch):
    """No tangents are computed, also by what was compiled with them before."""
    function, mu = compiled(k), leaf(0.3)
    want = function(mu).detach()
    launches = spy_on_launches(monkeypatch)
    with mode():
        assert torch.equal(function(mu), want)
    assert launches == [()]


def test_vmap_inside(compiled):
    """With the gradients of what comes out of it, which torch.compile would drop from an autograd.Function there."""

    def each(mus, lam):
        return func.vmap(lambda mu: k(mu, lam))(mus)

    inputs = leaf([0.1, 0.2, 0.3]), leaf(0.5)
    same(value_and_grad(compiled(each), *inputs), value_and_grad(each, *inputs))
    plain = [tensor.detach() for tensor in inputs]
    assert torch.equal(compiled(each)(*plain), each(*plain))


def dual(f, mu):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(mu, torch.ones_like(mu)))).tangent


TRANSFORMS = {
    "grad": lambda f: func.grad(lambda mu: f(mu).sum()),
    "jacrev": func.jacrev,
    "jacfwd": func.jacfwd,
    "jvp": lambda f: lambda mu: func.jvp(f, (mu,), (torch.ones_like(mu),))[1],
    "vmap of grad": lambda f: lambda mu: func.vmap(func.grad(lambda mu: f(mu).sum()))(mu.expand(2)),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("tracked", [False, True])
def test_derivatives_inside(compiled, transform, tracked):
    """Said in a whole graph; without the demand for one, done outside of graphs."""
    mu = leaf(0.3).requires_grad_(tracked)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"cannot be compiled: leave torch\.compile out"):
        compiled(transform(k))(mu)
    torch._dynamo.reset()
    got, want = compiled(transform(k), fullgraph=False)(mu), transform(k)(mu)
    assert torch.equal(got, want)
    assert (want != 0).all()


def test_derivative_in_lam_inside(compiled):
    lam = torch.tensor(0.5, dtype=torch.float64)
    got = compiled(func.grad(lambda lam: k(0.3, lam).sum()))(lam)
    assert torch.equal(got, k(0.3, 1.0).sum())


@pytest.mark.parametrize("tracked", [False, True])
def test_dual_number_into_a_graph(compiled, tracked):
    """Raised: a graph compiled before duals came has nothing to ask them with."""
    function, mu = compiled(k), leaf(0.3).requires_grad_(tracked)
    function(mu)
    with pytest.raises(NotImplementedError, match=r"leave torch\.compile out|implement the jvp"):  # ours, and torch's
        dual(function, mu)


def mean_in_x(x):
    return fastlam.mean(POLYNOMIAL, x)


def mean_in_center(center):
    return fastlam.mean(fastlam.Polynomial([0.5, -0.2, 1.0], center), torch.tensor([[1.0, 2.0]], dtype=torch.float64))


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize(("mean", "value"), [(mean_in_x, [[1.0, 2.0]]), (mean_in_center, 0.3)], ids=["x", "center"])
def test_dual_number_into_the_graph_of_a_mean(compiled, mean, value, tracked):
    function, argument = compiled(mean), leaf(value).requires_grad_(tracked)
    assert torch.equal(function(argument), mean(argument))
    assert dual(mean, argument) != 0
    with pytest.raises(NotImplementedError, match=r"leave torch\.compile out|implement the jvp"):
        dual(function, argument)


def test_second_derivative(compiled):
    """A compiled backward has no derivative, in torch: it says so."""
    mu = leaf(0.3)
    with torch._functorch.config.patch(donated_buffer=False):
        (slope,) = torch.autograd.grad(compiled(loss)(mu), mu, create_graph=True)
        with pytest.raises(RuntimeError):
            torch.autograd.grad(slope, mu)


def mean_of_scaled(mu, lam):
    paths = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    return fastlam.mean(fastlam.Functional("lam * x**2", {"lam": lam}), mu * paths).sum()


def loss_of_batch(mu, lam):
    return func.vmap(lambda one: k(one, lam))(mu * torch.ones(2, dtype=torch.float64)).sum()


@pytest.mark.parametrize("f", [loss, mean_of_scaled, loss_of_batch])
def test_second_derivative_without_aot(compiled, f):
    """What else is in the loss does not hide that the simulation's share of it is not known."""
    inputs = leaf(0.3), leaf(0.5)
    value = compiled(lambda mu, lam: f(mu, lam) + lam * mu**2, backend="eager")(*inputs)
    (slope,) = torch.autograd.grad(value, inputs[0], create_graph=True)
    with pytest.raises(NotImplementedError, match="first order: a second derivative"):
        torch.autograd.grad(slope, inputs[0])


@pytest.mark.parametrize("f", [loss, loss_of_batch])
def test_mixed_derivative_in_lam_without_aot(compiled, f):
    slopes = []
    for function in (compiled(f, backend="eager"), f):
        inputs = leaf(0.3), leaf(0.5)
        (slope,) = torch.autograd.grad(function(*inputs), inputs[0], create_graph=True)
        slopes.append(torch.autograd.grad(slope, inputs[1])[0])
    torch.testing.assert_close(*slopes, rtol=1e-15, atol=0)  # as `same`
    assert slopes[0] != 0


def test_progress(compiled):
    """It cannot be called from a graph, and breaks it."""
    calls = []

    def with_progress(mu):
        return mean_square(fastlam.Brownian(mu, 0.7, 1.5), progress=lambda *now: calls.append(now))

    with pytest.raises(torch._dynamo.exc.Unsupported, match="progress cannot be called from compiled code"):
        compiled(with_progress)(leaf(0.3))
    torch._dynamo.reset()
    got = compiled(with_progress, fullgraph=False)(leaf(0.3))
    assert torch.equal(got, with_progress(leaf(0.3)))
    assert calls == [(500, 500), (500, 500)]


def test_bad_values(compiled):
    """Found when the graph runs."""
    with pytest.raises(ValueError, match="sigma must be at least 0, but is -1"):
        compiled(lambda sigma: mean_square(fastlam.Brownian(0.3, sigma)))(leaf(-1.0))
    with pytest.raises(ValueError, match="mu must be finite, but is nan"):
        compiled(lambda mu: mean_square(fastlam.Brownian(mu)))(float("nan"))
