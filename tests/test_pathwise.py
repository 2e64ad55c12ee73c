"""Gradients of simulate_mean: against finite differences, closed forms and NumPy; in whom, in which dtype."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from simulate_mean_cases import PROCESS, TIMES, TORCH_TIMES, VALUES, leaf, leaves, mean_square, spy_on_launches

import fastlam

# torch's own forward-mode AD still goes through torch.jit, on its first use in a process.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
KINDS = pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)


def exact_mean_square(kind, theta, t):
    """E X(t)**2, where `theta` are the parameters in order."""
    if kind is fastlam.Brownian:
        mu, sigma, x0 = theta
        return (x0 + mu * t) ** 2 + sigma**2 * t
    if kind is fastlam.GeometricBrownian:
        mu, sigma, x0 = theta
        return x0**2 * torch.exp((2 * mu + sigma**2) * t)
    rate, mu, sigma, x0 = theta
    mean = mu + (x0 - mu) * torch.exp(-rate * t)
    return mean**2 + sigma**2 * -torch.expm1(-2 * rate * t) / (2 * rate)


@KINDS
def test_finite_differences(kind):
    """In all parameters and lam, reverse and forward, with the same paths on both sides of a difference."""

    def k(theta, lam):
        return mean_square(kind(*theta.unbind()), lam=lam, n_paths=200)

    assert torch.autograd.gradcheck(k, (leaf(VALUES[kind]), leaf(0.3)), check_forward_ad=True)
    assert torch.autograd.gradcheck(k, (leaf(VALUES[kind]), leaf([0.3, -1.0, 2.0])), check_forward_ad=True)


@KINDS
def test_closed_forms(kind):
    """Within 4 standard errors, which 32 slices of the family tell, of each derivative at each time; a fixed seed."""
    slices = []
    for part in range(32):
        process, theta = leaves(kind)
        k = mean_square(process, n_paths=4096, first_path=4096 * part)
        slices.append(torch.stack([torch.stack(torch.autograd.grad(v, theta, retain_graph=True)) for v in k]))
    got = torch.stack(slices)  # (slice, time, parameter)
    want = torch.func.jacrev(lambda theta: exact_mean_square(kind, theta.unbind(), TORCH_TIMES))(leaf(VALUES[kind]))
    stderr = got.std(0) / 32**0.5
    assert (stderr < 0.05 * want.abs()).all()  # so that the next line says something
    assert ((got.mean(0) - want).abs() < 4 * stderr).all()


@pytest.mark.parametrize("wanted", [(), (0,), (1,), (2,), (0, 2), (0, 1, 2)], ids=str)
def test_only_what_is_asked_for_is_computed(wanted, monkeypatch):
    launches = spy_on_launches(monkeypatch)
    parameters = [leaf(value).requires_grad_(p in wanted) for p, value in enumerate(VALUES[fastlam.Brownian])]
    k = mean_square(fastlam.Brownian(*parameters), lam=leaf(0.5))
    assert launches == [wanted]
    k.sum().backward()
    assert [p for p, parameter in enumerate(parameters) if parameter.grad is not None] == list(wanted)
    assert launches == [wanted]  # backward simulates nothing


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_computed_without_a_graph(mode, monkeypatch):
    launches = spy_on_launches(monkeypatch)
    process, _ = leaves(fastlam.Brownian)
    want = mean_square(process)
    with mode():
        k = mean_square(process)
        made_there = mean_square(fastlam.Brownian(*[leaf(value) for value in VALUES[fastlam.Brownian]]))
    assert launches == [(0, 1, 2), (), ()]
    assert not k.requires_grad
    assert torch.equal(k, want)
    assert torch.equal(made_there, want)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("times", [TORCH_TIMES, TORCH_TIMES.float()], ids=["float64 times", "float32 times"])
def test_shapes_and_dtypes(shape, dtype, times):
    """The gradient has the parameter's, and is that of a float64 parameter, rounded."""
    mu = torch.full(shape, 0.25, dtype=dtype, requires_grad=True)  # in every dtype
    k = mean_square(fastlam.Brownian(mu, 0.7, 1.5), times)
    assert k.dtype == times.dtype
    k.sum().backward()
    assert (mu.grad.shape, mu.grad.dtype) == (shape, dtype)
    exact = leaf(0.25)
    mean_square(fastlam.Brownian(exact, 0.7, 1.5), times).sum().backward()
    assert torch.equal(mu.grad, exact.grad.to(dtype).reshape(shape))


def test_parameter_updated_in_place():
    """One process object through a training: its values are read at each call; a graph keeps those that it saw."""
    mu = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
    process = fastlam.Brownian(mu, 0.7, 1.5)
    before = mean_square(process)
    with torch.no_grad():
        mu.add_(1.0)
    for k, value in ((mean_square(process), 1.3), (before, 0.3)):
        reference = leaf(value)
        want = mean_square(fastlam.Brownian(reference, 0.7, 1.5))
        assert torch.equal(k, want)
        assert torch.equal(torch.autograd.grad(k.sum(), mu)[0], torch.autograd.grad(want.sum(), reference)[0])


@pytest.mark.parametrize("change", ["detach_", "requires_grad_", "add_"])
def test_parameters_that_leave_the_graph(change):
    """A second derivative raises all the same: in what the simulation saw, and in that alone."""
    a, b = leaf(0.3), leaf(1.0)
    state, other = a * 1.0, leaf(0.7)
    k = mean_square(fastlam.Brownian(state, other, 1.5))
    want = torch.autograd.grad(k.sum(), [a, other], retain_graph=True)
    if change == "detach_":
        state.detach_()
    elif change == "requires_grad_":
        other.requires_grad_(False)
    else:
        state.add_(b)
    (slope,) = torch.autograd.grad(k.square().sum(), a, create_graph=True)
    other.requires_grad_(True)
    for of in (a, other):
        with pytest.raises(NotImplementedError, match="first order"):
            torch.autograd.grad(slope, of, retain_graph=True)
    if change == "add_":
        (slope.square() + state**2).backward(inputs=[b])
        assert b.grad == 2 * (0.3 + 1.0)
    assert all(map(torch.equal, torch.autograd.grad(k.sum(), [a, other]), want))


@pytest.mark.parametrize("parameter", ["leaf", "of the graph"])
def test_parameters_whose_shape_changes(parameter):
    a = torch.full((1,), 0.3, requires_grad=True)
    mu = a if parameter == "leaf" else a * 1
    k = mean_square(fastlam.Brownian(mu, 0.7, 1.5))
    (want,) = torch.autograd.grad(k.sum(), a, retain_graph=True)
    if parameter == "leaf":
        mu.data = mu.data.reshape(())
        k.sum().backward()
        assert a.grad == want
    else:
        mu.squeeze_()
        assert torch.equal(torch.autograd.grad(k.sum(), a)[0], want)


def test_states_written_where_parameters_came_from():
    """A roll-out in a buffer: nothing holds its graph when it is gone."""
    a, x = leaf(1.5), torch.zeros(4, dtype=torch.float64)
    x[0], held = a, []
    for t in range(3):
        k = mean_square(fastlam.Brownian(0.3, 0.7, x[t]))
        mark = threading.Event()
        k.grad_fn.metadata["mark"] = mark
        held.append(weakref.ref(mark))
        x[t + 1] = k.mean()
    x[-1].backward()
    assert a.grad is not None
    del x, k, mark
    gc.collect()
    assert [ref() for ref in held] == [None] * 3


def test_one_parameter_in_two_places():
    """As mu and as center; lam a function of it too: torch adds the three up."""
    a = leaf(0.3)
    parts = [leaf(0.3) for _ in range(3)]

    def k(mu, center, lam):
        return (
            fastlam.simulate_mean(
                fastlam.Polynomial([1.0, 0.5, 2.0], center), fastlam.Brownian(mu, 0.7, 1.5), TORCH_TIMES, 500, seed=3
            )
            * lam.exp()
        )

    (got,) = torch.autograd.grad(k(a, a, a).sum(), a)
    want = torch.autograd.grad(k(*parts).sum(), parts)
    torch.testing.assert_close(got, sum(want), rtol=1e-14, atol=0)  # two additions


@pytest.mark.parametrize("whole", [False, True], ids=["list of tensors", "one tensor"])
def test_parameters_of_a_polynomial(whole):
    """Against NumPy; each side is rounded less than a hundred times by 1.1e-16; of the sums a fifth cancels at most."""
    values, center = [0.5, -0.2, 1.0], leaf(0.1)
    coefficients = leaf(values) if whole else [leaf(value) for value in values]
    polynomial = fastlam.Polynomial(coefficients, center)
    k = fastlam.simulate_mean(polynomial, PROCESS, TORCH_TIMES, 500, seed=3)
    x = fastlam.simulate(PROCESS, TIMES, 500, seed=3) - 0.1
    np.testing.assert_allclose(k.detach(), (0.5 - 0.2 * x + x**2).mean(axis=1), rtol=3e-14)
    k.sum().backward()
    got = coefficients.grad if whole else [coefficient.grad.item() for coefficient in coefficients]
    np.testing.assert_allclose(got, [(x**p).mean(axis=1).sum() for p in range(3)], rtol=3e-14)
    np.testing.assert_allclose(center.grad, -(-0.2 + 2 * x).mean(axis=1).sum(), rtol=3e-14)


def test_parameters_of_a_functional():
    """A call's value in its strike and in the drift of what it is on; as above."""
    strike, mu = leaf(1.2), leaf(0.3)
    call = fastlam.Functional("max(x - strike, 0)", {"strike": strike})
    fastlam.simulate_mean(call, fastlam.Brownian(mu, 0.7, 1.5), TORCH_TIMES, 500, seed=3).sum().backward()
    paid = fastlam.simulate(PROCESS, TIMES, 500, seed=3) > 1.2
    np.testing.assert_allclose(strike.grad, -paid.mean(axis=1).sum(), rtol=3e-14)
    np.testing.assert_allclose(mu.grad, (paid.mean(axis=1) * TIMES).sum(), rtol=3e-14)


def test_python_threads():
    """Two threads at once, each with its own slice of the family, as loaders have: what one alone gives."""

    def gradient(part):
        process, theta = leaves(fastlam.Brownian)
        k = mean_square(process, n_paths=20_001, first_path=20_001 * part)
        return torch.stack(torch.autograd.grad(k.sum(), theta))

    want = [gradient(part) for part in range(40)]
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(gradient, range(40)))
    assert torch.equal(torch.stack(got), torch.stack(want))
    assert len({tuple(row.tolist()) for row in want}) == 40


def test_op_reads_theta_in_any_layout_and_of_the_right_length():
    """Memory outside of theta is not read; strided, as vmap hands it over, or float32, which has these values too."""
    theta = torch.tensor([0.25, 0.75, 1.5], dtype=torch.float64)
    others = fastlam.Brownian.handle, fastlam.Square.handle, [0], 500, [3, 0, 0, 0], False, "float64", False

    def op(theta):
        return torch.ops.fastlam.simulate_mean(theta, TORCH_TIMES, *others)

    want = op(theta)
    assert torch.equal(op(torch.stack([theta + 1, theta], 1)[:, 1]), want)
    assert torch.equal(op(theta.float()), want)
    with pytest.raises(ValueError, match=r"simulate_mean: theta must have shape \(3,\), but has \(4,\)"):
        op(torch.ones(4, dtype=torch.float64))


def test_an_exponent_where_paths_reach_zero():
    """Once a path is not above 0 its noise is 0, whatever the exponent: that leaves the other gradients as they are."""

    def gradients(diffusion, **more):
        leaves = {"kappa": 1.0, "theta": 0.02, "sigma": 0.6, "x0": 0.02, **more}
        leaves = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in leaves.items()}
        process = fastlam.Diffusion("kappa * (theta - max(x, 0))", diffusion, leaves)
        k = fastlam.simulate_mean_square(process, torch.arange(1, 9) / 8, 2000, seed=3, dtype=torch.float64).sum()
        k.backward()
        return k.detach(), {name: leaf.grad for name, leaf in leaves.items()}

    _, want = gradients("sigma * max(x, 0)**0.6")
    _, got = gradients("sigma * max(x, 0)**beta", beta=0.6)
    in_beta = got.pop("beta")
    for name, grad in want.items():
        torch.testing.assert_close(got[name], grad, rtol=1e-12, atol=0)  # some hundred roundings
    h = 1e-6  # the difference is off by its square times a third derivative, which paths near 0 make large
    low, high = (gradients("sigma * max(x, 0)**beta", beta=0.6 + by)[0] for by in (-h, h))
    torch.testing.assert_close(in_beta, (high - low) / (2 * h), rtol=1e-5, atol=0)
