"""calibrate says how sure it is: standard errors by the residuals, and by the paths."""

import math

import numpy as np
from calibrate_cases import TIMES, N, brownian_moment, calibrate, check_unknown, close

import fastlam


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


def test_one_target_has_no_stderr():
    result = fastlam.calibrate(fastlam.Brownian(sigma=0.5), TIMES[:1], np.array([0.004]), n_paths=1000)
    assert result.identified
    assert math.isnan(result.stderr["sigma"])
    assert result.loss < 1e-20
    two = calibrate(fastlam.Brownian(0.5, 0.5, 1.0), TIMES[:1], np.array([1.06]), learn=("mu", "sigma"), n_paths=N)
    check_unknown(two, ("mu", "sigma"))
