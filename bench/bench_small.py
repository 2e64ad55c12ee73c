"""Calls on 32 x 100 values, and simulations of 4 times x 100 paths: what a call costs before any work."""

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


def simulated_eager(mu, sigma, times):
    dt = torch.diff(times, prepend=times.new_zeros(1))[:, None]
    return (mu * dt + sigma * dt.sqrt() * torch.randn(len(times), 100)).cumsum(0).square().mean(1)


def simulated(mu, sigma, times):
    return fastlam.simulate_mean_square(fastlam.Brownian(mu, sigma), times, 100, seed=7)


@pytest.mark.parametrize("function", [simulated_eager, simulated], ids=["torch eager", "fastlam"])
def bench_simulate_forward_backward(row, full, function):
    mu, sigma = torch.tensor(0.05, requires_grad=True), torch.tensor(0.2, requires_grad=True)
    times, weight = torch.arange(1, 5) / 4, torch.ones(4)

    def call():
        mu.grad = sigma.grad = None
        k = function(mu, sigma, times)
        k.backward(weight)
        return k.detach()

    k = call()
    assert (abs(k / ((0.05 * times) ** 2 + 0.2**2 * times) - 1) < 5 * (2 / 100) ** 0.5).all()  # five standard errors
    total = mu * mu.grad + sigma * sigma.grad  # k is of degree 2 in (mu, sigma)
    torch.testing.assert_close(total.detach(), 2 * k.sum(), rtol=1e-5, atol=0)  # float32
    ours = function is simulated
    name = "fastlam" if ours else "torch eager"
    row("small: simulate_mean_square forward + backward", name, call, ours=ours, calls=CALLS if full else 1)
