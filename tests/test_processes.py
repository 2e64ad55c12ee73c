"""Every diffusion: paths against the reference, moments against closed forms, parameters that are odd or refused."""

import copy
import pickle

import numpy as np
import pytest
import torch

import fastlam
from fastlam import reference

SEED = 2**63 + 5
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
TIMES = np.array([0.0, 0.1, 0.25, 0.3, 1.0, 1.5, 1.75])  # the first is the start itself
STEPS = {  # the reference's step, and what is seen of its states
    fastlam.Brownian: (reference.brownian, np.asarray),
    fastlam.GeometricBrownian: (reference.geometric_brownian, np.asarray),
    fastlam.OrnsteinUhlenbeck: (reference.ornstein_uhlenbeck, np.asarray),
    fastlam.CoxIngersollRoss: (reference.cox_ingersoll_ross, reference.positive),
}
PROCESSES = [
    fastlam.Brownian(mu=0.3, sigma=0.7, x0=1.5),
    fastlam.GeometricBrownian(mu=0.3, sigma=0.7, x0=1.5),
    fastlam.GeometricBrownian(mu=-0.3, sigma=0.7, x0=-1.5),
    fastlam.OrnsteinUhlenbeck(theta=2.0, mu=0.5, sigma=0.7, x0=1.5),
    fastlam.OrnsteinUhlenbeck(theta=-0.5, mu=0.5, sigma=0.7, x0=1.5),
    fastlam.OrnsteinUhlenbeck(theta=1e-12, mu=0.5, sigma=0.7, x0=1.5),
    fastlam.CoxIngersollRoss(kappa=2.0, theta=0.5, sigma=0.7, x0=0.2),
    fastlam.CoxIngersollRoss(kappa=0.5, theta=0.1, sigma=1.5, x0=0.1),  # often below 0
]
EVERY = pytest.mark.parametrize("process", PROCESSES, ids=repr)
EXACT = (fastlam.Brownian, fastlam.GeometricBrownian, fastlam.OrnsteinUhlenbeck)  # at any times
IN_CLOSED_FORM = (*EXACT, fastlam.CoxIngersollRoss)  # their moments


def of(kinds):
    """The processes that are of these."""
    return pytest.mark.parametrize("process", [p for p in PROCESSES if isinstance(p, kinds)], ids=repr)


def step_of(process):
    """The reference's step with these parameters, and what is seen of its states."""
    *parameters, _ = process.parameters().values()
    step, seen = STEPS[type(process)]
    return step(*parameters), seen


def exact_and_tolerance(step, x0, times, dtype, n, **stream):
    """The reference's states, and a bound (m, n) on the error of paths, carried along with them by the step itself.

    A normal errs by 1e-6 (1e-14) at most. A step rounds its two or three coefficients and its four or so operations,
    none of them on numbers larger than the states before and after it and 1: eight halves of a unit are more than that.
    """
    z = reference.normals(np.arange(n) + stream.pop("first_path", 0), len(times), dtype=dtype, **stream)
    normal, half_unit = (1e-6, 2.0**-24) if dtype == "float32" else (1e-14, 2.0**-53)
    x, t, error = np.full(n, float(x0)), 0.0, np.full(n, half_unit * abs(x0))
    states, errors = [], []
    for time, noise in zip(times.tolist(), z, strict=True):
        after = step(x, noise, t, time - t)
        near = [step(x + a * error, noise + b * normal, t, time - t) for a in (-1, 1) for b in (-1, 1)]
        error = np.max(np.abs(near - after), axis=0) + 8 * half_unit * (1 + np.abs(x) + np.abs(after))
        x, t = after, time
        states.append(x)
        errors.append(error)
    return np.array(states), np.array(errors)


@EVERY
@DTYPES
@pytest.mark.parametrize("antithetic", [False, True], ids=["plain", "antithetic"])
def test_paths_equal_reference(process, dtype, antithetic):
    step, seen = step_of(process)
    stream = {"seed": SEED, "antithetic": antithetic, "first_path": 2**32 - 601}
    x = fastlam.simulate(process, TIMES, 1100, dtype=dtype, **stream)
    exact, tolerance = exact_and_tolerance(step, process.x0, TIMES, dtype, 1100, **stream)
    np.testing.assert_array_equal(exact, reference.follow(step, process.x0, TIMES, 1100, dtype=dtype, **stream))
    assert (np.abs(x - seen(exact)) <= tolerance).all()
    assert np.median(tolerance) < (1e-4 if dtype == "float32" else 1e-12)  # or it would say nothing


def moments(process, t):
    """Mean and variance at the times t in closed form."""
    p, x0 = process, process.x0
    if isinstance(p, fastlam.Brownian):
        return x0 + p.mu * t, p.sigma**2 * t
    if isinstance(p, fastlam.GeometricBrownian):
        return x0 * np.exp(p.mu * t), (x0 * np.exp(p.mu * t)) ** 2 * np.expm1(p.sigma**2 * t)
    if isinstance(p, fastlam.OrnsteinUhlenbeck):
        decay, variance = np.exp(-p.theta * t), -np.expm1(-2 * p.theta * t) / (2 * p.theta)
        return p.mu + (x0 - p.mu) * decay, p.sigma**2 * variance
    if isinstance(p, fastlam.CoxIngersollRoss):
        decay = np.exp(-p.kappa * t)
        variance = x0 * (decay - decay**2) + p.theta * (1 - decay) ** 2 / 2
        return p.theta + (x0 - p.theta) * decay, p.sigma**2 / p.kappa * variance
    raise AssertionError(f"nothing is known here of {process}")


def assert_moments(process, grid, at, n, bias):
    """Within 4 standard errors, and `bias` of the scheme, of the closed form, at the positions `at` of the grid."""
    x = fastlam.simulate(process, grid, n, seed=11, dtype="float64")[at]
    mean, variance = moments(process, grid[at])
    for values, want in [(x, mean), ((x - mean[:, None]) ** 2, variance)]:
        error = 4 * values.std(axis=1) / np.sqrt(n) + bias * np.abs(want)
        assert (np.abs(values.mean(axis=1) - want) <= error).all()


@of(EXACT)
def test_moments(process):
    assert_moments(process, TIMES[1:], np.arange(6), 2**17, 0.0)


def test_moments_of_cox_ingersoll_ross():
    """On a fine grid: the scheme's bias is of weak order 1, and here below 1% (dt kappa)."""
    assert_moments(PROCESSES[6], np.arange(1, 301) / 200, np.array([20, 100, 299]), 2**14, 0.01)


def test_mean_of_a_step_of_cox_ingersoll_ross():
    """E[x'] = E[x] + kappa (theta - E[max(x, 0)]) dt, of states: steps that overshoot 0 often, so that max matters."""
    process, n = PROCESSES[7], 2**17
    step, seen = step_of(process)
    states = reference.follow(step, process.x0, TIMES, n, seed=3, dtype="float64")
    np.testing.assert_allclose(fastlam.simulate(process, TIMES, n, seed=3), seen(states), atol=1e-9)  # sqrt near 0
    assert (states < 0).mean() > 0.1
    dt = np.diff(TIMES)[:, None]
    noise = states[1:] - (states[:-1] + process.kappa * (process.theta - seen(states[:-1])) * dt)
    assert (np.abs(noise.mean(axis=1)) <= 4 * noise.std(axis=1) / np.sqrt(n)).all()


@DTYPES
def test_ornstein_uhlenbeck_at_theta_0_is_brownian(dtype):
    x = fastlam.simulate(fastlam.OrnsteinUhlenbeck(0.0, 0.5, 0.7, 1.5), TIMES, 1100, seed=SEED, dtype=dtype)
    want = fastlam.simulate(fastlam.Brownian(0.0, 0.7, 1.5), TIMES, 1100, seed=SEED, dtype=dtype)
    np.testing.assert_array_equal(x, want)


@of(IN_CLOSED_FORM)
@DTYPES
def test_without_noise_all_paths_are_the_solution(process, dtype):
    still = type(process)(**{**process.parameters(), "sigma": 0.0})
    x = fastlam.simulate(still, np.linspace(0.0, 2.0, 401), 3, seed=1, dtype=dtype)
    mean, _ = moments(still, np.linspace(0.0, 2.0, 401))
    # roundings of 400 steps; Euler's scheme errs by at most (kappa dt) (x0 - theta) / 2
    tolerance = (1e-4 if dtype == "float32" else 1e-12) + 0.01 * isinstance(still, fastlam.CoxIngersollRoss) * 0.5
    assert (x == x[:, :1]).all()
    np.testing.assert_allclose(x[:, 0], mean, rtol=0, atol=tolerance)


def test_geometric_brownian_keeps_its_sign():
    up, down, zero = (fastlam.simulate(fastlam.GeometricBrownian(0.3, 0.7, x0), TIMES, 99, seed=1) for x0 in (2, -2, 0))
    np.testing.assert_array_equal(up, -down)
    assert (up > 0).all()
    assert (zero == 0).all()


@pytest.mark.parametrize(
    "number", [np.float64, np.float32, np.array, lambda v: np.array([v]), torch.tensor, lambda v: torch.tensor([v])]
)
def test_parameters_of_any_kind(number):
    process = fastlam.OrnsteinUhlenbeck(*map(number, (2.0, 0.5, 0.75, 1.5)))
    want = fastlam.simulate(fastlam.OrnsteinUhlenbeck(2.0, 0.5, 0.75, 1.5), TIMES, 10, seed=1)
    np.testing.assert_array_equal(fastlam.simulate(process, TIMES, 10, seed=1), want)


BAD_VALUES = [np.nan, np.inf, -np.inf, 10**400, float("-1e400")]
BAD_KINDS = ["1", b"1", None, True, 1j, np.complex64(1), np.array([1.0, 2.0]), [1.0], object(), np.datetime64("2020"),
             torch.ones(2), torch.tensor(1j), torch.tensor(True), torch.ones(1).to_sparse()]  # fmt: skip


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize(("values", "error"), [(BAD_VALUES, ValueError), (BAD_KINDS, TypeError)])
def test_bad_parameters(kind, values, error):
    for name in kind().parameters():
        for value in values:
            with pytest.raises(error, match=rf"{kind.__name__}: {name} must be (finite|one real number), but is "):
                kind(**{name: value})


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_bad_tensors_are_refused(kind, value):
    words = r"sigma must be (finite|at least 0), but is (-1\.0|nan|inf)"
    with pytest.raises(ValueError, match=words):
        kind(sigma=torch.tensor(value))
    sigma = torch.tensor(0.5)
    process = kind(sigma=sigma)
    sigma.fill_(value)  # as an optimizer that goes astray
    for launch in (fastlam.simulate, fastlam.simulate_mean_square):
        with pytest.raises(ValueError, match=words):
            launch(process, torch.tensor(TIMES), 2, seed=1)


def test_below_zero_by_name():
    for process in PROCESSES:
        for name in process.nonnegative:
            with pytest.raises(ValueError, match=rf"{type(process).__name__}: {name} must be at least 0, but is -0.5"):
                type(process)(**{**process.parameters(), name: -0.5})


@pytest.mark.parametrize("number", [float, torch.tensor, lambda v: torch.tensor([v])])
def test_equal_copies(number):
    for process in PROCESSES:
        process = type(process)(*map(number, process.parameters().values()))
        for other in (copy.copy(process), copy.deepcopy(process), pickle.loads(pickle.dumps(process))):
            assert other == process
            assert repr(other) == repr(process)
        assert process != type(process)(**{**process.parameters(), "x0": 0.75})
