"""calibrate takes tensors, and refuses what it cannot work with."""

import numpy as np
import pytest
import torch
from calibrate_cases import TIMES, N, brownian_moment

import fastlam


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


LAM_DIFFUSION = fastlam.Diffusion("lam * x", "1", {"lam": 1.0, "x0": 1.0})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"process": 3}, TypeError, "process must be a diffusion such as fastlam.Brownian, but is 3"),
        ({"process": np.ones(1000)}, TypeError, r"process must be a diffusion .*, but is .{9,40}$"),
        ({"process": LAM_DIFFUSION}, ValueError, "the process has a parameter named lam"),
        ({"times": [1.0]}, TypeError, "times must be a NumPy array, a torch tensor or a CuPy array, but is list"),
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
