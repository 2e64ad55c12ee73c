"""calibrate finds what made the targets, and says what it ran with."""

import dataclasses
import json

import numpy as np
import pytest
from calibrate_cases import TIMES, N, brownian_moment, calibrate, close, near_truth

import fastlam

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
    np.testing.assert_allclose(result.fitted, targets, rtol=1e-13)  # 1e-15 of the largest, 90 times the smallest
    # Validation: the next n paths of the family, at the estimates; its residuals are Monte Carlo noise.
    other = fastlam.simulate_mean_square(process, TIMES, n, 0.7, seed=seed, first_path=n)
    assert result.validation_loss == close(np.mean((other - targets) ** 2), rel=1e-6)
    assert result.loss < 1e-20 < result.validation_loss


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
    # Sums of squares, added as 16 slices or as one: each side is rounded less than a hundred times by 1.1e-16.
    np.testing.assert_allclose(paired.fitted, same, rtol=3e-14)


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
