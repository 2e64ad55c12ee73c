"""calibrate: it finds what made the targets, says how sure it is, and never guesses what k does not tell."""

import dataclasses
import json
import math
from functools import partial

import numpy as np
import pytest
import torch

import fastlam

TIMES = np.arange(1, 41) / 20
N = 2**14 - 2  # paths: enough to tell apart what the tests learn; not a multiple of anything
LONG = np.arange(1, 41) / 10
close = partial(pytest.approx, abs=0)  # relative only


def brownian_moment(lam, mu, sigma, x0, times=TIMES):
    return lam * ((x0 + mu * times) ** 2 + sigma**2 * times)


def calibrate(*arguments, **named):
    """`fastlam.calibrate` of what is not identified, which it warns of."""
    with pytest.warns(UserWarning, match="calibrate: not identified: "):
        return fastlam.calibrate(*arguments, **named)


def check_unknown(result, names):
    for name in result.estimates:
        unknown = name in names
        assert (result.estimates[name] is None) == unknown
        assert math.isinf(result.stderr[name]) == unknown
        assert math.isinf(result.monte_carlo_stderr[name]) == unknown


def near_truth(result, truth):
    """Within 5 standard errors, those of the other paths that truth would need among them: once in a million."""
    for name, value in result.estimates.items():
        assert abs(value - truth[name]) < 5 * math.hypot(result.stderr[name], result.monte_carlo_stderr[name])


@pytest.mark.parametrize("mu", [0.05, 0.5, -0.5])
@pytest.mark.parametrize("n_paths", [500, 2**14])
def test_lam_mu_and_sigma_from_0_are_not_identified(mu, n_paths):
    """Only lam mu**2 and lam sigma**2 are: exactly, for however many paths."""
    targets = brownian_moment(0.25, mu, 0.2, 0.0)
    start = fastlam.Brownian(mu=math.copysign(0.3, mu), sigma=0.5)
    result = calibrate(start, TIMES, targets, learn=("lam", "mu", "sigma"), n_paths=n_paths)
    assert not result.identified
    assert result.rank < 3
    check_unknown(result, ("lam", "mu", "sigma"))
    if n_paths == 2**14:  # with fewer, mu is noise
        assert result.rank == 2
        (sentence,) = result.unidentified
        assert sentence.startswith("only a combination of lam, mu and sigma is known: k stays the same where lam ")
        assert sentence.endswith("lam changes by -1%, mu by +0.5% and sigma by +0.5%")


def test_lam_and_sigma_from_0_are_not_identified_and_mu_is_none_of_it():
    result = calibrate(fastlam.Brownian(sigma=0.5), TIMES, brownian_moment(0.25, 0, 0.2, 0), learn=("lam", "sigma"))
    assert result.unidentified == [
        "only a combination of lam and sigma is known: k stays the same where lam changes by -1% and sigma by +0.5%"
    ]
    assert (result.rank, result.fixed) == (1, {"mu": 0.0, "x0": 0.0})


def test_a_known_start_identifies_lam_mu_and_sigma():
    """Lam x0**2 gives lam. The directions of lam and sigma are near one another (condition 40): it takes paths."""
    truth = {"lam": 0.25, "mu": 0.5, "sigma": 0.5}
    targets = brownian_moment(**truth, x0=1.0, times=LONG)
    start = fastlam.Brownian(mu=0.3, sigma=0.8, x0=1.0)
    result = fastlam.calibrate(start, LONG, targets, learn=("lam", "mu", "sigma"), n_paths=2**18)
    assert (result.identified, result.rank, result.unidentified, result.converged) == (True, 3, [], True)
    near_truth(result, truth)
    few = calibrate(start, LONG, targets, learn=("lam", "mu", "sigma"), n_paths=2**10)
    assert few.rank == 3 - len(few.unidentified) < 3


GROWTH = fastlam.GeometricBrownian(mu=0.1, sigma=0.3, x0=1.0)


def growth_moment(lam, mu, sigma):
    return lam * np.exp((2 * mu + sigma**2) * TIMES)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_paths", [300, 2**14])
def test_growth_and_volatility_are_told_apart_by_noise_alone(n_paths, seed):
    """E x**2 knows 2 mu + sigma**2; a sample of paths tells them apart, falsely, with a condition of a few hundred."""
    result = calibrate(GROWTH, TIMES, growth_moment(1, 0.05, 0.2), learn=("mu", "sigma"), n_paths=n_paths, seed=seed)
    assert result.condition < 1000  # seen by the noise alone
    assert result.rank == 1
    check_unknown(result, ("mu", "sigma"))
    assert result.unidentified[0].startswith("only a combination of mu and sigma is known: k stays the same, as far as")


def test_what_is_identified_beside_what_is_not():
    """Lam is; and x0 against it is not, where both are learned."""
    targets = growth_moment(0.25, 0.05, 0.2)
    result = calibrate(GROWTH, TIMES, targets, learn=("lam", "mu", "sigma"), n_paths=2**16)
    check_unknown(result, ("mu", "sigma"))
    assert abs(result.estimates["lam"] - 0.25) < 5 * math.hypot(result.stderr["lam"], result.monte_carlo_stderr["lam"])
    assert result.converged
    both = calibrate(GROWTH, TIMES, targets, learn=("mu", "lam", "x0"))
    check_unknown(both, ("lam", "x0"))
    assert both.unidentified[0].startswith("only a combination of lam and x0 is known: k stays the same where lam")
    near = both.estimates["mu"], both.stderr["mu"], both.monte_carlo_stderr["mu"]
    assert abs(near[0] - (0.05 + (0.2**2 - 0.3**2) / 2)) < 5 * math.hypot(*near[1:])  # sigma stays 0.3


def test_no_slope_at_all():
    """E x**2 is even in mu: at 0 its slope is the noise of the sample, which the search does not follow."""
    result = calibrate(fastlam.Brownian(mu=0.0, sigma=0.2), TIMES, brownian_moment(1, 0.3, 0.2, 0), learn="mu")
    assert (result.rank, result.iterations, result.estimates) == (0, 0, {"mu": None})
    assert result.unidentified == ["k does not depend on mu near 0, as far as 65,536 paths can tell"]


MEAN_REVERTING = fastlam.Diffusion(
    "theta * (mu - x)", "sigma", {"theta": 1.4, "mu": 0.8, "sigma": 0.3, "x0": 0.2}, scheme="milstein"
)
CASES = [
    (fastlam.Brownian(mu=1.0, sigma=1.0, x0=0.1), {"mu": 0.7, "sigma": 0.8}),
    (fastlam.GeometricBrownian(mu=0.2, sigma=0.3, x0=2.0), {"lam": 1.0, "mu": 0.0}),
    (fastlam.OrnsteinUhlenbeck(theta=1.5, mu=0.3, sigma=0.4, x0=2.0), {"theta": 0.8, "lam": 2.0, "sigma": 0.1}),
    (fastlam.CoxIngersollRoss(kappa=2.0, theta=0.5, sigma=0.6, x0=1.5), {"kappa": 1.0, "theta": 2.0}),
    (MEAN_REVERTING, {"theta": 1.0, "mu": 0.4}),
]


def started(process, values):
    changed = {**process.parameters(), **{name: value for name, value in values.items() if name != "lam"}}
    if isinstance(process, fastlam.Diffusion):
        return fastlam.Diffusion(process.drift, process.diffusion, changed, scheme=process.scheme)
    return type(process)(**changed)


@pytest.mark.parametrize(("process", "start"), CASES, ids=lambda value: type(value).__name__)
def test_what_made_the_targets_on_the_same_paths_is_found_to_rounding(process, start):
    """The residuals are rounding, 1e-15, and the condition is below 1e3."""
    n, seed = N, 2**40 + 3
    targets = fastlam.simulate_mean_square(process, TIMES, n, 0.7, seed=seed)
    learn = tuple(start)
    first = started(process, start)
    lam = start.get("lam", 0.7)
    result = fastlam.calibrate(first, TIMES, targets, learn=learn, lam=lam, n_paths=n, seed=seed)
    truth = {"lam": 0.7, **process.parameters()}
    assert (result.converged, result.identified) == (True, True)
    assert result.start == start
    for name in learn:
        assert result.estimates[name] == close(truth[name], rel=1e-9)
    np.testing.assert_allclose(result.fitted, targets, rtol=1e-13)
    # Validation: the next n paths of the family, at the estimates; its residuals are Monte Carlo noise.
    other = fastlam.simulate_mean_square(process, TIMES, n, 0.7, seed=seed, first_path=n)
    assert result.validation_loss == close(np.mean((other - targets) ** 2), rel=1e-6)
    assert result.loss < 1e-20 < result.validation_loss


def test_stderr_is_by_the_jacobian_and_the_residuals():
    """The Jacobian by central differences of k on the same paths, with an error of 1e-8."""
    rng = np.random.default_rng(3)
    truth = fastlam.Brownian(mu=1.0, sigma=1.0, x0=0.1)
    noise = 0.01 * rng.standard_normal(40)
    k = fastlam.simulate_mean_square(truth, TIMES, 2000, 0.7, seed=1) + noise
    result = fastlam.calibrate(truth, TIMES, k, learn=("sigma", "mu"), lam=0.7, n_paths=2000, seed=1)

    def model(mu, sigma):
        return fastlam.simulate_mean_square(fastlam.Brownian(mu, sigma, 0.1), TIMES, 2000, 0.7, seed=1)

    mu, sigma, h = result.estimates["mu"], result.estimates["sigma"], 1e-5
    jacobian = np.stack([model(mu, sigma + h) - model(mu, sigma - h), model(mu + h, sigma) - model(mu - h, sigma)], 1)
    jacobian /= 2 * h
    residuals = k - model(mu, sigma)
    np.testing.assert_allclose(result.residuals, residuals, rtol=1e-9, atol=1e-14)
    assert np.linalg.norm(jacobian.T @ residuals) < 1e-6 * np.linalg.norm(residuals) * np.linalg.norm(jacobian)
    want = np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)) * (residuals @ residuals) / 38)
    np.testing.assert_allclose(list(result.stderr.values()), want, rtol=1e-6)
    assert result.loss == close(np.mean(residuals**2), rel=1e-9)
    scaled = np.linalg.svd(jacobian / np.linalg.norm(jacobian, axis=0), compute_uv=False)
    assert result.condition == close(scaled[0] / scaled[1], rel=1e-6)


def test_monte_carlo_stderr_is_the_spread_over_seeds():
    """Of 60 seeds: a standard deviation known to 1 / sqrt(120) = 9%; four of them, and the curvature beside."""
    k = brownian_moment(0.7, 1.0, 1.0, 0.1)
    start = fastlam.Brownian(mu=1.0, sigma=1.0, x0=0.1)
    results = [
        fastlam.calibrate(start, TIMES, k, learn=("mu", "sigma"), lam=0.7, n_paths=N, seed=seed) for seed in range(60)
    ]
    for name in ("mu", "sigma"):
        spread = np.std([result.estimates[name] for result in results], ddof=1)
        said = np.sqrt(np.mean([result.monte_carlo_stderr[name] ** 2 for result in results]))
        assert said == close(spread, rel=0.4)


def test_float32_paths():
    """Found again to their rounding, 6e-8, times a condition of about 10."""
    truth = fastlam.Brownian(mu=1.0, sigma=1.0, x0=0.1)
    k = fastlam.simulate_mean_square(truth, TIMES, N, seed=0, dtype="float32")
    start = fastlam.Brownian(mu=0.7, sigma=0.8, x0=0.1)
    result = fastlam.calibrate(start, TIMES, k, learn=("mu", "sigma"), n_paths=N, dtype="float32")
    assert (result.dtype, result.converged) == ("float32", True)
    assert result.estimates == {"mu": close(1.0, rel=1e-5), "sigma": close(1.0, rel=1e-5)}


def test_antithetic_paths_in_pairs():
    k = brownian_moment(0.7, 1.0, 1.0, 0.1)
    start = fastlam.Brownian(mu=0.7, sigma=0.8, x0=0.1)
    arguments = {"learn": ("mu", "sigma"), "lam": 0.7, "n_paths": N, "seed": 5}
    paired = fastlam.calibrate(start, TIMES, k, antithetic=True, **arguments)
    plain = fastlam.calibrate(start, TIMES, k, **arguments)
    near_truth(paired, {"mu": 1.0, "sigma": 1.0})
    assert paired.monte_carlo_stderr["mu"] < plain.monte_carlo_stderr["mu"]  # the linear part of the noise is gone
    mu, sigma = paired.estimates["mu"], paired.estimates["sigma"]
    same = fastlam.simulate_mean_square(fastlam.Brownian(mu, sigma, 0.1), TIMES, N, 0.7, seed=5, antithetic=True)
    np.testing.assert_allclose(paired.fitted, same, rtol=1e-13)


@pytest.mark.parametrize("unit", [1e-250, 1e250])
def test_targets_of_any_size(unit):
    """Squares of them are not in float64."""
    k = brownian_moment(0.7, 1.0, 1.0, 0.1)
    start = fastlam.Brownian(mu=0.7, sigma=0.5, x0=0.1)
    plain = fastlam.calibrate(start, TIMES, k, learn=("lam", "mu"), n_paths=2000)
    scaled = fastlam.calibrate(start, TIMES, k * unit, learn=("lam", "mu"), lam=unit, n_paths=2000)
    assert scaled.estimates["lam"] / unit == close(plain.estimates["lam"], rel=1e-9)
    assert scaled.estimates["mu"] == close(plain.estimates["mu"], rel=1e-9)
    assert scaled.stderr["mu"] == close(plain.stderr["mu"], rel=1e-6)


def test_sigma_stays_above_its_bound():
    """From far above: the first step of plain Gauss-Newton would be to -2.4."""
    k = brownian_moment(1, 0.0, 0.05, 0.0)
    result = fastlam.calibrate(fastlam.Brownian(sigma=5.0), TIMES, k, n_paths=2000)
    assert result.converged
    near_truth(result, {"sigma": 0.05})


def test_tensors_as_input():
    """Of parameters, too, whose graphs are left alone."""
    mu = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    k = brownian_moment(0.7, 1.0, 1.0, 0.1)
    start = {"sigma": 0.8, "x0": 0.1}
    arguments = {"learn": ["mu", "sigma"], "lam": 0.7, "n_paths": N}
    a = fastlam.calibrate(fastlam.Brownian(mu=0.7, **start), TIMES, k, **arguments)
    b = fastlam.calibrate(fastlam.Brownian(mu=mu, **start), torch.tensor(TIMES), torch.tensor(k), **arguments)
    assert a.estimates == b.estimates
    assert mu.grad is None
    assert isinstance(b.estimates["mu"], float)


def test_one_target_has_no_stderr():
    result = fastlam.calibrate(fastlam.Brownian(sigma=0.5), TIMES[:1], np.array([0.004]), n_paths=1000)
    assert result.identified
    assert math.isnan(result.stderr["sigma"])
    assert result.loss < 1e-20
    two = calibrate(fastlam.Brownian(0.5, 0.5, 1.0), TIMES[:1], np.array([1.06]), learn=("mu", "sigma"), n_paths=N)
    check_unknown(two, ("mu", "sigma"))


def test_too_few_steps_are_warned_of():
    steps = []
    with pytest.warns(UserWarning, match="calibrate: not converged in 1 steps"):
        result = fastlam.calibrate(
            fastlam.Brownian(sigma=5.0), TIMES, brownian_moment(1, 0, 0.2, 0), n_paths=1000, max_iterations=1,
            progress=lambda done, total: steps.append((done, total)),
        )  # fmt: skip
    assert (result.converged, result.iterations, steps) == (False, 1, [(1, 1)])


def test_json_has_every_field():
    result = calibrate(fastlam.Brownian(), TIMES, TIMES, learn=("lam", "sigma"), n_paths=1000)
    fields = json.loads(result.to_json())
    assert list(fields) == [field.name for field in dataclasses.fields(fastlam.CalibrationResult)]
    assert fields["estimates"] == fields["stderr"] == {"lam": None, "sigma": None}
    assert fields["residuals"] == result.residuals.tolist()
    assert fields["process"] == "Brownian(mu=0.0, sigma=1.0, x0=0.0)"
    assert set(fields["seconds"]) == {"search", "check"}


LAM_DIFFUSION = fastlam.Diffusion("lam * x", "1", {"lam": 1.0, "x0": 1.0})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"process": 3}, TypeError, "process must be a diffusion such as fastlam.Brownian, but is 3"),
        ({"process": LAM_DIFFUSION}, ValueError, "the process has a parameter named lam"),
        ({"times": [1.0]}, TypeError, "times must be a NumPy array or a torch tensor, but is list"),
        ({"times": TIMES[::-1]}, ValueError, "times must be strictly increasing"),
        ({"k": TIMES[1:]}, ValueError, r"k must have shape \(40,\), one target for each time, but has \(39,\)"),
        ({"k": TIMES * np.nan}, ValueError, r"k must be finite, but k\[0\] = nan"),
        ({"learn": ()}, ValueError, r"learn must be some of lam, mu, sigma, x0, each once, but is \(\)"),
        ({"learn": ("mu", "mu")}, ValueError, "each once"),
        ({"learn": ("kappa",)}, ValueError, "learn must be some of lam, mu, sigma, x0"),
        ({"learn": 3}, TypeError, "learn must be some of"),
        ({"learn": (3,)}, TypeError, "learn must be some of"),
        ({"process": fastlam.Brownian(sigma=0)}, ValueError, "sigma is learned, so it must start above 0"),
        ({"lam": np.nan}, ValueError, "lam must be finite, but is nan"),
        ({"lam": "a"}, TypeError, "lam must be one real number"),
        ({"n_paths": 0}, ValueError, "n_paths must be at least 1"),
        ({"n_paths": 3, "antithetic": True}, ValueError, "n_paths must be even: whole pairs, but is 3"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"dtype": "float16"}, TypeError, "dtype must be float32 or float64"),
        ({"max_iterations": 0}, ValueError, "max_iterations must be at least 1"),
        ({"progress": 3}, TypeError, "progress must be callable, but is 3"),
        ({"process": fastlam.Brownian(x0=1e200)}, ValueError, "k or its derivatives are not finite at sigma = 1"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_input(changed, error, message):
    arguments = {"process": fastlam.Brownian(), "times": TIMES, "k": TIMES, "n_paths": 100} | changed
    with pytest.raises(error, match=f"^calibrate: .*{message}"):
        fastlam.calibrate(**arguments)
