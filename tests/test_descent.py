"""The compiled descent takes torch.optim's steps."""

import numpy as np
import pytest
import torch

from fastlam.descent import COMPILED, CompiledDescent, TorchDescent

RNG = np.random.default_rng(1)
S = RNG.uniform(0.1, 2.0, 101)
K = 0.25 * S + 0.01 * RNG.standard_normal(101)


@pytest.mark.parametrize("make", COMPILED)
@pytest.mark.parametrize("batch_size", [1, 7, 101])
def test_equals_torch(make, batch_size):
    """Each epoch, to rounding: 202 steps of a few operations each, that the descent itself contracts."""
    ours, torchs = CompiledDescent(make, 0.7, 0.03, S, K), TorchDescent(make, 0.7, 0.03, S, K)
    generator = torch.Generator().manual_seed(3)
    for _ in range(2):
        order = torch.randperm(101, generator=generator)
        losses = ours.epoch(order, batch_size), torchs.epoch(order, batch_size)
        assert losses[0] == pytest.approx(losses[1], rel=1e-12, abs=0)
        assert ours.lam == pytest.approx(torchs.lam, rel=1e-12, abs=0)
    assert ours.lam != 0.7
