"""FitResult: least squares and its standard error, the history, and what is written of them."""

import dataclasses
import json
import math
from functools import partial

import numpy as np
import pytest
import torch

import fastlam

LAM = 0.25
RNG = np.random.default_rng(0)
close = partial(pytest.approx, abs=0)  # relative only: pytest's default allows 1e-12 besides
X = RNG.standard_normal((200, 300)) * np.sqrt(np.arange(1, 201) / 50)[:, None]
K = fastlam.mean_square(X, LAM)
NOISY = K + 0.1 * RNG.standard_normal(200)
KIND = pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])


def training_times(result):
    return np.setdiff1d(np.arange(len(result.targets)), result.holdout)


@KIND
@pytest.mark.parametrize("k_kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_least_squares(dtype, k_kind, kind):
    """Closed form, difference and stderr in their formulas, for every mixture of kinds: float64 sums of 160 terms."""
    x, k = X.astype(dtype), NOISY.astype(dtype)
    result = fastlam.fit(kind(x), k_kind(k))
    s, target = fastlam.mean_square(x.astype(float)), k.astype(float)
    np.testing.assert_array_equal(result.means, s)
    np.testing.assert_array_equal(result.targets, target)
    s, target = (values[training_times(result)] for values in (s, target))
    assert result.closed_form == close((s @ target) / (s @ s), rel=1e-14)
    assert result.difference == result.lam - result.closed_form
    residuals = target - result.closed_form * s
    white = np.sqrt(160 / 159 * np.sum((s * residuals) ** 2)) / (s @ s)
    assert result.stderr == close(white, rel=1e-13)


@pytest.mark.parametrize("relative", [False, True], ids=["equal variances", "noise as large as k"])
def test_stderr_covers(relative):
    """(closed_form - lam) / stderr of 200 draws at 160 times has variance 1 +- 0.1, and a bias of a few hundredths."""
    s = fastlam.mean_square(X)
    errors = []
    for seed in range(200):
        noise = 0.3 * np.random.default_rng(seed).standard_normal(len(s))
        result = fastlam.fit(X, LAM * s + noise * (s if relative else 1), holdout=0, lr=0.01, epochs=1)
        errors.append((result.closed_form - LAM) / result.stderr)
    assert abs(np.var(errors) - 1) < 4 * 0.11


def test_one_time_has_no_stderr():
    result = fastlam.fit(X[:1], K[:1], optimizer="sgd")
    assert math.isnan(result.stderr)
    assert result.lam == close(LAM)
    assert (result.holdout, result.holdout_loss, result.max_stable_lr) == ([], None, 1 / result.means[0] ** 2)


@pytest.mark.parametrize("holdout", [0.2, 0])
def test_history(holdout):
    result = fastlam.fit(X, NOISY, holdout=holdout, epochs=7, lam0=0.1, batch_size=200)
    history, train = result.history, training_times(result)
    assert {len(column) for column in history.values()} == {7}
    assert history["epoch"] == [1, 2, 3, 4, 5, 6, 7]
    residuals = result.lam * result.means - NOISY
    gradient = np.mean(2 * residuals[train] * result.means[train])
    assert history["grad_norm"][-1] == close(abs(gradient), rel=1e-10)  # cancels: 1e-16 of its terms
    losses = [np.mean((lam * result.means[train] - NOISY[train]) ** 2) for lam in (0.1, *history["lam"])]
    assert history["train_loss"] == close(losses[:-1], rel=1e-12)  # one batch: its loss before its step
    assert result.holdout_loss == history["holdout_loss"][-1]
    if holdout:
        assert result.holdout_loss == close(np.mean(residuals[result.holdout] ** 2), rel=1e-12)
    else:
        assert history["holdout_loss"] == [None] * 7
    assert set(result.seconds) == {"means", "train"}


def test_json_has_every_field():
    result = fastlam.fit(X, K, holdout=0.1, lr=0.01, epochs=2)
    fields = json.loads(result.to_json())
    assert list(fields) == [field.name for field in dataclasses.fields(fastlam.FitResult)]
    want = dataclasses.asdict(result) | {"means": result.means.tolist(), "targets": result.targets.tolist()}
    assert fields == want
    assert isinstance(fields["seed"], int)
    assert json.loads(fastlam.fit(X[:1], K[:1]).to_json())["stderr"] is None
