"""Learning rates of fit: those that explode, what it says before and after, and what "auto" reaches."""

import json
import math
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch

import fastlam

LAM = 0.25
RNG = np.random.default_rng(0)
close = partial(pytest.approx, abs=0)  # relative only: pytest's default allows 1e-12 besides
X = RNG.standard_normal((200, 300)) * np.sqrt(np.arange(1, 201) / 50)[:, None]
K = fastlam.mean_square(X, LAM)


def recording(optimizer, trace):
    """A subclass whose steps append (loss, lam after the step) to `trace`."""

    class Recording(optimizer):
        def step(self, closure):
            loss = super().step(closure)
            trace.append((float(loss), self.param_groups[0]["params"][0].item()))
            return loss

    return Recording


def training_times(result):
    return np.setdiff1d(np.arange(len(result.targets)), result.holdout)


@pytest.mark.parametrize("batch_size", range(1, 9))
def test_max_stable_lr_is_that_of_the_worst_batch(batch_size):
    """By brute force over every batch of every size that an epoch of 7 times makes."""
    result = fastlam.fit(X[:7], K[:7], holdout=0, batch_size=batch_size, lr=0.01, epochs=1)
    sizes = {len(part) for part in torch.arange(7).split(batch_size)}
    batches = [list(batch) for size in sizes for batch in combinations(range(7), size)]
    largest = max(2 * np.mean(result.means[batch] ** 2) for batch in batches)
    assert result.max_stable_lr == close(2 / largest, rel=1e-14)


def worst_batch(result):
    """Training positions of the largest s, as many as the smallest batch of an epoch holds."""
    train = training_times(result)
    smallest = len(train) % result.batch_size or result.batch_size
    return train[np.argsort(result.means[train])[-smallest:]]


# (optimizer, its limit in units of max_stable_lr): with momentum b, 1 + b of the heavy ball (Polyak, 1964), and
# (1 + b) / (1 + 2 b) of Nesterov's, from the roots of its recursion on a quadratic.
LIMITS = [
    pytest.param(torch.optim.SGD, 1.0, id="sgd"),
    pytest.param(partial(torch.optim.SGD, momentum=0.5), 1.5, id="momentum 0.5"),
    pytest.param(partial(torch.optim.SGD, momentum=0.9), 1.9, id="momentum 0.9"),
    pytest.param(partial(torch.optim.SGD, momentum=0.9, nesterov=True), 1.9 / 2.8, id="nesterov"),
    pytest.param(torch.optim.ASGD, 1.0, id="asgd"),
]


@pytest.mark.parametrize(("optimizer", "limit"), LIMITS)
def test_either_side_of_the_limit(optimizer, limit):
    """On the worst batch, again and again: 0.95 of the limit converges in silence; 1.05 warns, and runs away."""
    result = fastlam.fit(X, K, batch_size=30, lr=0.01, epochs=1)
    worst = worst_batch(result)
    assert len(worst) == 160 % 30
    repeat = partial(fastlam.fit, X[worst], K[worst], holdout=0, batch_size=len(worst), optimizer=optimizer, epochs=200)
    lr = limit * result.max_stable_lr
    assert repeat(lr=0.95 * lr).lam == close(LAM, rel=1e-3)
    with pytest.warns(UserWarning, match="largest that gradient descent can take|diverged by epoch 200") as caught:
        away = repeat(lr=1.05 * lr)
    assert ["diverged" in str(warning.message) for warning in caught] == [False, True]
    assert abs(away.lam - LAM) > 100 * LAM


def test_below_the_limit_every_shuffle_converges():
    lr = 0.95 * fastlam.fit(X, K, lr=0.01, epochs=1).max_stable_lr
    for seed in range(20):
        assert fastlam.fit(X, K, optimizer="sgd", lr=lr, seed=seed).lam == close(LAM, rel=1e-9)


@pytest.mark.parametrize(("optimizer", "limit"), LIMITS)
def test_warns_before_the_first_step(optimizer, limit):
    """As an error the warning leaves lam as it was; the rate that it names trains."""
    steps = []
    recorder = partial(recording(getattr(optimizer, "func", optimizer), steps), **getattr(optimizer, "keywords", {}))
    train = partial(fastlam.fit, X, K, optimizer=recorder, epochs=50)
    lr = 1.05 * limit * fastlam.fit(X, K, lr=0.01, epochs=1).max_stable_lr
    with pytest.raises(UserWarning, match=r"may explode. lr = .* would do") as warning:
        train(lr=lr, progress=lambda done, epochs: steps.append(done))
    assert steps == []
    remedy = float(str(warning.value).split("explode. lr = ")[1].split(" would do")[0])
    assert train(lr=remedy).lam == close(LAM, rel=1e-3)
    with pytest.warns(UserWarning, match="largest that gradient descent can take") as caught:
        fastlam.fit(X, K, optimizer=recorder, epochs=1, lr=lr)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("name", ["adam", "rmsprop", "rprop", "lbfgs", "adagrad"])
def test_no_warning_where_the_limit_does_not_hold(name):
    fastlam.fit(X, K, optimizer=name, lr=1.0, epochs=1)  # 14 times the limit; a warning would be an error


def test_diverging_training_stops():
    calls = []
    lr = 1e3 * fastlam.fit(X, K, lr=0.01, epochs=1).max_stable_lr
    with pytest.warns(UserWarning, match="may explode|diverged by epoch") as caught:
        result = fastlam.fit(X, K, optimizer="sgd", lr=lr, epochs=500, progress=lambda *call: calls.append(call))
    assert ["may explode" in str(caught[0].message), "diverged by epoch" in str(caught[1].message)] == [True, True]
    assert caught[1].filename == __file__
    assert not math.isfinite(result.lam)
    assert len(calls) == len(result.history["lam"]) < 500
    assert f"epoch {len(calls)}" in str(caught[1].message)
    fields = json.loads(result.to_json())
    assert fields["lam"] is fields["history"]["lam"][-1] is None
    assert fields["closed_form"] == close(LAM)


class PlainDescent(torch.optim.Optimizer):
    """Of a kind that fit cannot know, so that it cannot say before the first step that lr is too large."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    def step(self, closure):
        loss = closure()
        for group in self.param_groups:
            for lam in group["params"]:
                lam.data -= group["lr"] * lam.grad
        return loss


def test_divergence_that_is_still_finite():
    lr = 3 * fastlam.fit(X, K, lr=0.01, epochs=1).max_stable_lr
    with pytest.warns(UserWarning, match=r"diverged by epoch 10: .* smaller lr") as caught:
        result = fastlam.fit(X, K, optimizer=PlainDescent, lr=lr, epochs=10)
    assert [warning.filename for warning in caught] == [__file__]
    assert 100 < abs(result.lam) < math.inf
    assert fastlam.fit(X, K, optimizer=PlainDescent, lr=lr / 6, epochs=100).lam == close(LAM, rel=1e-6)


@pytest.mark.parametrize("lam0", [LAM, 0.0, 10.0])
@pytest.mark.parametrize("lr", [0.05, 0.5])
def test_jumping_about_is_not_divergence(lr, lam0):
    fastlam.fit(X, K, optimizer="adam", lam0=lam0, lr=lr, epochs=3)  # a warning would be an error


def test_far_away_but_on_its_way_back_is_not_divergence():
    result = fastlam.fit(X, K, optimizer="adam", lr=50.0, epochs=5)  # a warning would be an error
    away = np.abs(np.array(result.history["lam"]) - LAM)
    assert 10 * LAM < away[-1] < max(away)


@pytest.mark.parametrize("lam0", [0.0, -1000.0, 7.0])
@pytest.mark.parametrize("epochs", [1, 2, 5, 20, 60, 99])
def test_auto_takes_adam_there_in_few_whole_steps(epochs, lam0):
    """On whole batches it is there at the last step, to what bisection and Adam's 1e-8 leave, and not before."""
    result = fastlam.fit(X, K, lam0=lam0, epochs=epochs, batch_size=200)
    left = np.abs(np.array([lam0, *result.history["lam"]]) - result.closed_form) / abs(lam0 - result.closed_form)
    assert left[-1] < 1e-6
    assert all(np.diff(left) < 0)


@pytest.mark.parametrize("batch_size", [8, 32])
@pytest.mark.parametrize("lam0", [0.0, -1000.0, LAM])
def test_auto_settles_in_many_steps(lam0, batch_size):
    """500 and 2000 steps, with noise; a warning would be an error."""
    noisy = K * (1 + 0.02 * np.random.default_rng(1).standard_normal(200))
    result = fastlam.fit(X, noisy, lam0=lam0, epochs=100, batch_size=batch_size)
    assert abs(result.difference) < max(3 * result.stderr, 1e-3 * LAM)


def test_says_when_auto_has_not_settled():
    with pytest.warns(UserWarning, match="not settled by epoch 3") as caught:
        result = fastlam.fit(X, K, epochs=3)
    assert [warning.filename for warning in caught] == [__file__]
    assert abs(result.difference) > 1e-3 * LAM
    assert f"{result.difference:+.2g} from the closed form" in str(caught[0].message)
    for remedy in ({"epochs": 50}, {"epochs": 20, "optimizer": "sgd"}):
        assert remedy.get("optimizer", "more epochs") in str(caught[0].message)
        assert fastlam.fit(X, K, **remedy).lam == close(LAM, rel=1e-3)
    assert fastlam.fit(X, K, epochs=3, lr=result.lr).lam == result.lam  # in silence: the rate was the user's choice


@pytest.mark.parametrize("lam0", [0.0, LAM, 1.0])
def test_auto_where_lam_is_zero(lam0):
    """Targets of zero: the way is lam0 alone, or none at all."""
    result = fastlam.fit(X, 0 * K, lam0=lam0, epochs=100)
    assert result.closed_form == 0
    assert abs(result.lam) <= 1e-3 * lam0
