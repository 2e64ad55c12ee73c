"""The source problem's training: 20,000 paths x 1,000 times, 20 epochs of batches of 32 times, Adam.

Baselines: the plain torch loop, that copies and reduces x[j] at every step; the same loop over means taken once, as one
writes it who has seen that the functional is linear in lam; that with the gradient written by hand; and one that has
left torch once the means are known, for NumPy's sums of batches and Adam on Python's floats.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

import fastlam

LR, EPOCHS, BATCH = 5e-3, 20, 32


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


def orders(count, epochs):
    generator = torch.Generator().manual_seed(0)
    return [torch.randperm(count, generator=generator) for _ in range(epochs)]


def batches(count, epochs):
    for order in orders(count, epochs):
        yield from order.split(BATCH)


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


def loop_in_floats(x, k, epochs):
    """The slope of a batch is a lam - b: all a and b are summed ahead."""
    s, k = mean_square(x).double().numpy(), k.double().numpy()
    order, starts = torch.stack(orders(len(k), epochs)).numpy(), np.arange(0, len(k), BATCH)
    half = np.diff(starts, append=len(k)) / 2
    a, b = ((np.add.reduceat(sums[order], starts, axis=1) / half).ravel().tolist() for sums in (s * s, s * k))
    lam = mean = square = 0.0
    for step, (a_step, b_step) in enumerate(zip(a, b, strict=True), start=1):
        slope = a_step * lam - b_step
        mean += (1 - 0.9) * (slope - mean)
        square += (1 - 0.999) * (slope * slope - square)
        lam -= LR / (1 - 0.9**step) * mean / (math.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return lam


@pytest.mark.parametrize("baseline", [loop, loop_over_means, loop_by_hand, loop_in_floats])
def bench_torch(row, full, baseline):
    x, k = problem(full)
    assert abs(baseline(x, k, EPOCHS) - 0.25) < (1e-3 if full else 0.02)
    row("train", baseline.__name__, lambda: baseline(x, k, EPOCHS), rounds=3 if baseline is loop else 7)


def bench_fastlam(row, full):
    x, k = problem(full)
    call = lambda: fastlam.fit(x, k, lr=LR, epochs=EPOCHS, holdout=0.0)  # noqa: E731
    assert abs(call().lam - 0.25) < (1e-3 if full else 0.02)
    row("train", "fastlam.fit", call, ours=True, rounds=7)
