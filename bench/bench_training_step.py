"""A step of training (lam, mu, sigma) of a geometric Brownian motion: 32 of 1000 times, 4096 fresh paths, Adam.

Baselines: torch, simulating those times alone in one call each of randn, cumsum and exp, and the same compiled.
"""

from __future__ import annotations

from itertools import count

import pytest
import torch

import fastlam

TIMES = torch.arange(1, 1001) / 250
BATCH, PATHS = 32, 4096
TRUE = {"lam": 0.25, "mu": 0.05, "sigma": 0.2}


def torch_eager(lam, mu, sigma, times, n, seed):
    return reduce(lam, mu, sigma, times, torch.randn(len(times), n))


def torch_compiled(lam, mu, sigma, times, n, seed):
    return compiled(lam, mu, sigma, times, torch.randn(len(times), n))


def reduce(lam, mu, sigma, times, z):
    dt = torch.diff(times, prepend=times.new_zeros(1))[:, None]
    log = ((mu - sigma**2 / 2) * dt + sigma * dt.sqrt() * z).cumsum(0)
    return lam * log.exp().square().mean(1)


compiled = torch.compile(reduce, dynamic=False)


def one_pass(lam, mu, sigma, times, n, seed):
    return fastlam.simulate_mean_square(fastlam.GeometricBrownian(mu, sigma), times, n, lam, seed=seed)


def parameters(scale=1.0):
    return {name: torch.tensor(value * scale, requires_grad=True) for name, value in TRUE.items()}


def check(mean_of):
    """Means and slopes over 16 runs: those in lam and mu follow from the means, that in sigma from the law."""
    p, t = parameters(), TIMES[::32]
    k = torch.stack([mean_of(*p.values(), t, PATHS, seed) for seed in range(16)]).mean(0)
    k.sum().backward()
    law = TRUE["lam"] * torch.exp((2 * TRUE["mu"] + TRUE["sigma"] ** 2) * t)
    in_sigma = (2 * TRUE["sigma"] * t * law).sum()
    torch.testing.assert_close(k, law, rtol=0.02, atol=0)  # five standard errors: 5 sqrt((exp(4 sigma**2 t) - 1) / n)
    torch.testing.assert_close(p["lam"].grad * TRUE["lam"], k.sum(), rtol=1e-5, atol=0)  # float32 sums
    torch.testing.assert_close(p["mu"].grad, (2 * t * k).sum(), rtol=1e-4, atol=0)  # x**2 has the slope 2 t x**2 in mu
    torch.testing.assert_close(p["sigma"].grad, in_sigma, rtol=0.1, atol=0)  # five standard errors of the last time


def training(mean_of):
    """A call is one step."""
    p, seeds, generator = parameters(1.2), count(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(p.values(), lr=1e-3)
    targets = TRUE["lam"] * torch.exp((2 * TRUE["mu"] + TRUE["sigma"] ** 2) * TIMES)

    def call():
        j = torch.randperm(len(TIMES), generator=generator)[:BATCH].sort().values
        optimizer.zero_grad()
        k = mean_of(*p.values(), TIMES[j], PATHS, next(seeds))
        torch.nn.functional.mse_loss(k, targets[j]).backward()
        optimizer.step()

    return call


@pytest.mark.parametrize("mean_of", [torch_eager, torch_compiled, one_pass])
def bench_training_step(row, full, mean_of):
    check(mean_of)
    ours = mean_of is one_pass
    name = "fastlam" if ours else mean_of.__name__
    row("training step", name, training(mean_of), ours=ours, work=(BATCH * PATHS, " normals"), calls=50 if full else 1)
