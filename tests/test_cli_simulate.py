"""`fastlam simulate` writes what the function returns."""

import numpy as np
import pytest

import fastlam
from fastlam import commands
from fastlam.data import load_paths


def test_help_says_where_other_diffusions_are(fastlam_):
    assert "It knows no other diffusion: fastlam.simulate" in fastlam_("simulate", "--help")[1]


@pytest.mark.parametrize("layout", ["times-by-paths", "paths-by-times"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("steps", [("--dt", "1/8"), ("--dt", 0.125), ("--horizon", 1.25)])
def test_simulate_writes_what_the_function_returns(fastlam_, monkeypatch, suffix, layout, steps):
    monkeypatch.setattr(commands, "SLICE", 1000)  # 100 paths at a time
    code, _, _ = fastlam_(
        "simulate", "--out", f"x{suffix}", "--n-paths", 250, "--n-times", 10, *steps, "--mu", 0.5, "--sigma", 2,
        "--x0", -1, "--seed", 2**63 + 5, "--first-path", 7, "--antithetic", "--dtype", "float64", "--layout", layout,
    )  # fmt: skip
    assert code == 0
    process, times = fastlam.Brownian(mu=0.5, sigma=2, x0=-1), np.arange(1, 11) / 8
    x = fastlam.simulate(process, times, 250, seed=2**63 + 5, first_path=7, antithetic=True)
    np.testing.assert_array_equal(load_paths(f"x{suffix}", layout), x)
    if suffix == ".npz":
        np.testing.assert_array_equal(np.load("x.npz")["times"], times)
