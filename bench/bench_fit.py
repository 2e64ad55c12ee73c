"""The source problem's training: 20,000 paths x 1,000 times, 20 epochs of batches of 32 times, Adam.

Baselines: the plain torch loop, that copies and reduces x[j] at every step; the same loop over means taken once, as one
writes it who has seen that the functional is linear in lam; and that with the gradient written by hand.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch

import fastlam

LR, EPOCHS = 5e-3, 20


@cache
def problem(full):
    m, n = (1000, 20_000) if full else (100, 500)
    times = torch.arange(1, m + 1) / 250
    x = fastlam.simulate(fastlam.Brownian(mu=0.05, sigma=0.2), times, n, seed=7)
    return x, fastlam.mean_square(x, 0.25)


def train(s_of, count, k, epochs):
    lam = torch.nn.Parameter(torch.tensor(0.0))
    optimizer = torch.optim.Adam([lam], lr=LR)
    for j in batches(count, epochs):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(lam * s_of(j), k[j]).backward()
        optimizer.step()
    return lam.item()


def batches(count, epochs):
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        yield from torch.randperm(count, generator=generator).split(32)


def mean_square(x):
    """The fastest single pass that torch has."""
    return torch.linalg.vector_norm(x, dim=1).square() / x.shape[1]


def loop(x, k, epochs):
    return train(lambda j: mean_square(x[j]), len(k), k, epochs)


def loop_over_means(x, k, epochs):
    s = mean_square(x)
    return train(lambda j: s[j], len(k), k, epochs)


@torch.no_grad()
def loop_by_hand(x, k, epochs):
    s = mean_square(x)
    lam = torch.nn.Parameter(torch.tensor(0.0))
    optimizer = torch.optim.Adam([lam], lr=LR)
    for j in batches(len(k), epochs):
        s_j = s[j]
        lam.grad = 2 * ((lam * s_j - k[j]) * s_j).mean()
        optimizer.step()
    return lam.item()


@pytest.mark.parametrize("baseline", [loop, loop_over_means, loop_by_hand])
def bench_torch(row, full, baseline):
    x, k = problem(full)
    assert abs(baseline(x, k, EPOCHS) - 0.25) < (1e-3 if full else 0.02)
    row("train", f"torch {baseline.__name__}", lambda: baseline(x, k, EPOCHS), rounds=3 if baseline is loop else 7)


def bench_fastlam(row, full):
    x, k = problem(full)
    call = lambda: fastlam.fit(x, k, lr=LR, epochs=EPOCHS, holdout=0.0)  # noqa: E731
    assert abs(call().lam - 0.25) < (1e-3 if full else 0.02)
    row("train", "fastlam.fit", call, ours=True, rounds=7)
