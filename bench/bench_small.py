"""Calls on 32 x 100 values: what a call costs before any work."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fastlam
from bench.bench_mean_square import eager, forward_backward

CALLS = 200


def tiny():
    return torch.randn(32, 100, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("function", [eager, fastlam.mean_square], ids=["torch eager", "fastlam"])
def bench_forward_backward(row, full, function):
    ours = function is fastlam.mean_square
    call = forward_backward(function, tiny())
    name = "fastlam" if ours else "torch eager"
    row("small: forward + backward", name, call, ours=ours, calls=CALLS if full else 1)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def bench_value_and_grad(row, full, kind):
    x = tiny().numpy() if kind == "numpy" else tiny()
    value, grad = fastlam.mean_square_value_and_grad(x, 0.25)
    np.testing.assert_allclose(value, 0.25 * np.mean(tiny().numpy().astype(float) ** 2, -1), rtol=1e-6)
    np.testing.assert_allclose(value, 0.25 * np.asarray(grad), rtol=1e-6)
    call = lambda: fastlam.mean_square_value_and_grad(x, 0.25)  # noqa: E731
    row("small: value and grad", kind, call, calls=CALLS if full else 1)
