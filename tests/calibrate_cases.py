"""What the tests of calibrate share: times, a number of paths, and what its results must say."""

import math
from functools import partial

import numpy as np
import pytest

import fastlam

TIMES = np.arange(1, 41) / 20
N = 2**14 - 2  # paths: enough to tell apart what the tests learn; not a multiple of anything
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
