"""calibrate never guesses what k does not tell: what is identified, and what is not, in words."""

import math

import numpy as np
import pytest
from calibrate_cases import TIMES, brownian_moment, calibrate, check_unknown, near_truth

import fastlam

LONG = np.arange(1, 41) / 10


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
