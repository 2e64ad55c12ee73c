"""fit against its docstring: what it finds, never sees and records, and what it says before it explodes."""

import dataclasses
import json
import math
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

import fastlam

LAM = 0.25
RNG = np.random.default_rng(0)
close = partial(pytest.approx, abs=0)  # relative only: pytest's default allows 1e-12 besides
X = RNG.standard_normal((200, 300)) * np.sqrt(np.arange(1, 201) / 50)[:, None]
K = fastlam.mean_square(X, LAM)
NOISY = K + 0.1 * RNG.standard_normal(200)
KIND = pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])


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


# Adafactor's step is a share of lam's own size, AdamW's decay pulls lam a little below: hence a hundredth.
@pytest.mark.parametrize(
    "name",
    ["adam", "sgd", "LBFGS", "adagrad", "Adadelta", "adamw", "adamax", "nadam", "radam", "rmsprop", "rprop", "asgd",
     "adafactor"],
)  # fmt: skip
def test_finds_lam_from_zero_by_name(name):
    result = fastlam.fit(X, K, optimizer=name, epochs=100)
    assert result.lam == close(LAM, rel=0.01)
    assert result.optimizer.lower() == name.lower()
    assert (result.epochs, result.batch_size, result.history["lam"][-1]) == (100, 32, result.lam)


@pytest.mark.parametrize(
    "optimizer",
    [torch.optim.Adam, torch.optim.SGD, partial(torch.optim.SGD, momentum=0.5),
     lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.5)],
    ids=["Adam", "SGD", "partial", "lambda"],
)  # fmt: skip
def test_finds_lam_from_lam0_by_callable(optimizer):
    result = fastlam.fit(X, K, optimizer=optimizer, lr=0.01, lam0=0.5, epochs=100)
    assert result.lam == close(LAM, rel=1e-6)
    assert (result.lr, result.optimizer) == (0.01, "Adam" if optimizer is torch.optim.Adam else "SGD")


def test_every_name_that_is_offered_works():
    with pytest.raises(ValueError, match="optimizer must be one of") as error:
        fastlam.fit(X, K, optimizer="adan")
    names = str(error.value).split("one of ")[1].split(", but")[0].split(", ")
    assert {"adam", "sgd", "lbfgs"} <= set(names)
    refused = []
    for name in names:
        try:
            fastlam.fit(X, K, optimizer=name, epochs=1)
        except Exception as reason:
            refused.append((name, reason))
    assert refused == []


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
        result = fastlam.fit(X, LAM * s + noise * (s if relative else 1), holdout=0, epochs=1, optimizer="sgd")
        errors.append((result.closed_form - LAM) / result.stderr)
    assert abs(np.var(errors) - 1) < 4 * 0.11


def test_one_time_has_no_stderr():
    result = fastlam.fit(X[:1], K[:1], optimizer="sgd")
    assert math.isnan(result.stderr)
    assert result.lam == close(LAM)
    assert (result.holdout, result.holdout_loss, result.max_stable_lr) == ([], None, 1 / result.means[0] ** 2)


@pytest.mark.parametrize(
    ("times", "share", "count"), [(200, 0.2, 40), (200, 0.5, 100), (10, 0.01, 1), (10, 0.99, 9), (200, 0.0, 0)]
)
def test_holdout_share(times, share, count):
    held = fastlam.fit(X[:times], K[:times], holdout=share, epochs=1).holdout
    assert len(set(held)) == count
    assert held == sorted(held)
    assert all(0 <= j < times for j in held)


def test_holdout_is_the_seeds():
    held = [fastlam.fit(X, K, seed=seed, epochs=1).holdout for seed in (1, 1, np.uint64(2), 2**64 - 1)]
    assert held[0] == held[1]
    assert len(set(map(tuple, held))) == 3


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lbfgs"])
def test_holdout_is_never_trained_on(optimizer):
    clean = fastlam.fit(X, NOISY, optimizer=optimizer)
    x, k = X.copy(), NOISY.copy()
    x[clean.holdout] *= 1e3
    k[clean.holdout] = -1e9
    poisoned = fastlam.fit(x, k, optimizer=optimizer)
    assert poisoned.holdout == clean.holdout
    for name in ("lam", "stderr", "closed_form", "lr", "max_stable_lr"):
        assert getattr(poisoned, name) == getattr(clean, name)
    for name in ("lam", "train_loss", "grad_norm"):
        assert poisoned.history[name] == clean.history[name]
    assert poisoned.holdout_loss > 1e17 > clean.holdout_loss


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


@pytest.mark.parametrize(("optimizer", "lr"), [(torch.optim.SGD, 0.03), (torch.optim.Adam, 0.01)])
def test_same_descent_as_the_training_loop(optimizer, lr):
    """DESIGN section 2's loop, in autograd on x itself, after every step: the same float64, to an ulp or two."""
    steps, seed, epochs = [], 5, 4
    result = fastlam.fit(X, NOISY, optimizer=recording(optimizer, steps), lr=lr, seed=seed, epochs=epochs, lam0=-1.0)

    x, k, losses = torch.as_tensor(X), torch.as_tensor(NOISY), []
    lam = torch.nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))
    descent = optimizer([lam], lr=lr)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(k), generator=generator)
    train = order[len(result.holdout) :].sort().values
    assert result.holdout == order[: len(result.holdout)].sort().values.tolist()
    for epoch in range(epochs):
        for j in train[torch.randperm(len(train), generator=generator)].split(32):
            descent.zero_grad()
            loss = mse_loss(fastlam.mean_square(x, lam, index=j), k[j])
            loss.backward()
            descent.step()
            losses.append(loss.item())
            assert steps[len(losses) - 1] == close((losses[-1], lam.item()), rel=1e-15)
        assert result.history["lam"][epoch] == close(lam.item(), rel=1e-15)
        assert result.history["train_loss"][epoch] == close(np.mean(losses[-5:]), rel=1e-14)  # 160 = 5 * 32
    assert len(steps) == len(losses) == 5 * epochs


@pytest.mark.parametrize("batch_size", range(1, 9))
def test_max_stable_lr_is_that_of_the_worst_batch(batch_size):
    """By brute force over every batch of every size that an epoch of 7 times makes."""
    result = fastlam.fit(X[:7], K[:7], holdout=0, batch_size=batch_size, epochs=1)
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
    result = fastlam.fit(X, K, batch_size=30, epochs=1)
    worst = worst_batch(result)
    assert len(worst) == 160 % 30
    repeat = partial(fastlam.fit, X[worst], K[worst], holdout=0, batch_size=len(worst), optimizer=optimizer, epochs=200)
    lr = limit * result.max_stable_lr
    assert repeat(lr=0.95 * lr).lam == close(LAM, rel=1e-3)
    with pytest.warns(UserWarning, match="largest that gradient descent can take"):
        away = repeat(lr=1.05 * lr)
    assert abs(away.lam - LAM) > 100 * LAM


def test_below_the_limit_every_shuffle_converges():
    lr = 0.95 * fastlam.fit(X, K, epochs=1).max_stable_lr
    for seed in range(20):
        assert fastlam.fit(X, K, optimizer="sgd", lr=lr, seed=seed).lam == close(LAM, rel=1e-9)


@pytest.mark.parametrize(("optimizer", "limit"), LIMITS)
def test_warns_before_the_first_step(optimizer, limit):
    """As an error the warning leaves lam as it was; the rate that it names trains."""
    steps = []
    recorder = partial(recording(getattr(optimizer, "func", optimizer), steps), **getattr(optimizer, "keywords", {}))
    train = partial(fastlam.fit, X, K, optimizer=recorder, epochs=50)
    lr = 1.05 * limit * fastlam.fit(X, K, epochs=1).max_stable_lr
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
    lr = 1e3 * fastlam.fit(X, K, epochs=1).max_stable_lr
    with pytest.warns(UserWarning, match="may explode|diverged in epoch") as caught:
        result = fastlam.fit(X, K, optimizer="sgd", lr=lr, epochs=500, progress=lambda *call: calls.append(call))
    assert ["may explode" in str(caught[0].message), "diverged in epoch" in str(caught[1].message)] == [True, True]
    assert caught[1].filename == __file__
    assert not math.isfinite(result.lam)
    assert len(calls) == len(result.history["lam"]) < 500
    assert f"epoch {len(calls)}" in str(caught[1].message)
    fields = json.loads(result.to_json())
    assert fields["lam"] is fields["history"]["lam"][-1] is None
    assert fields["closed_form"] == close(LAM)


def test_progress():
    calls = []
    fastlam.fit(X, K, epochs=3, progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_json_has_every_field():
    result = fastlam.fit(X, K, holdout=0.1, epochs=2)
    fields = json.loads(result.to_json())
    assert list(fields) == [field.name for field in dataclasses.fields(fastlam.FitResult)]
    want = dataclasses.asdict(result) | {"means": result.means.tolist(), "targets": result.targets.tolist()}
    assert fields == want
    assert json.loads(fastlam.fit(X[:1], K[:1]).to_json())["stderr"] is None


@pytest.mark.parametrize("transposed", [False, True], ids=["rows", "transposed"])
def test_memory_map(transposed, tmp_path):
    x = X.astype(np.float32)
    np.save(tmp_path / "x.npy", x.T if transposed else x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    result = fastlam.fit(mapped.T if transposed else mapped, K)
    want = fastlam.fit(x, K)
    assert (result.lam, result.history) == (want.lam, want.history)
    np.testing.assert_array_equal(result.means, want.means)


def test_leaves_everything_else_alone():
    """Inputs, torch's own random numbers, and whether gradients are recorded."""
    x, k = torch.tensor(X, requires_grad=True), torch.tensor(NOISY, requires_grad=True)
    state = torch.get_rng_state()
    want = fastlam.fit(X, NOISY)
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            result = fastlam.fit(x, k)
        assert (result.lam, result.history) == (want.lam, want.history)
    assert torch.equal(torch.get_rng_state(), state)
    assert x.grad is k.grad is None
    np.testing.assert_array_equal(x.detach(), X)
    np.testing.assert_array_equal(k.detach(), NOISY)


def changed(array, position, value):
    array = array.copy()
    array[position] = value
    return array


BAD = [
    (TypeError, "fit: x must be a NumPy array or a torch tensor", {"x": X.tolist()}),
    (TypeError, "x has dtype int64, but must be float32 or float64", {"x": X.astype(int)}),
    (TypeError, "masked", {"x": np.ma.array(X)}),
    (ValueError, r"x must have shape \(m, n\), but has \(200,\)", {"x": X[:, 0]}),
    (ValueError, r"x must have shape \(m, n\), but has \(2, 100, 300\)", {"x": X.reshape(2, 100, 300)}),
    (ValueError, "at least one element", {"x": X[:, :0]}),
    (ValueError, "row 7 has mean square nan", {"x": changed(X, (7, 3), np.nan)}),
    (ValueError, "row 7 has mean square inf", {"x": changed(X, (7, 3), -np.inf)}),
    (ValueError, "x is zero at every training time", {"x": 0 * X}),
    (TypeError, "fit: k must be a NumPy array or a torch tensor", {"k": K.tolist()}),
    (TypeError, "k has dtype int64", {"k": K.astype(int)}),
    (ValueError, r"k must have shape \(200,\), one target for each row of x, but has \(199,\)", {"k": K[1:]}),
    (ValueError, r"k must have shape \(200,\)", {"k": K[:, None]}),
    (ValueError, r"k\[5\] = nan", {"k": changed(K, 5, np.nan)}),
    (ValueError, r"k\[0\] = inf", {"k": changed(K, 0, np.inf)}),
    (ValueError, "optimizer must be one of .*adam.*sgd.*, but is 'optimizer'", {"optimizer": "optimizer"}),
    (TypeError, "optimizer must be a torch.optim class or its name, but is 3", {"optimizer": 3}),
    (ValueError, "lr must be finite and above 0.0, but is 0", {"lr": 0}),
    (ValueError, "lr must be finite and above 0.0, but is -1.0", {"lr": -1.0}),
    (ValueError, "lr must be finite and above 0.0, but is nan", {"lr": math.nan}),
    (TypeError, "lr must be a number, but is 'fast'", {"lr": "fast"}),
    (TypeError, "lr must be a number, but is True", {"lr": True}),
    (ValueError, "lam0 must be finite, but is inf", {"lam0": math.inf}),
    (TypeError, "lam0 must be a number, but is None", {"lam0": None}),
    (ValueError, "epochs must be at least 1", {"epochs": 0}),
    (TypeError, "epochs must be an integer, but is 1.5", {"epochs": 1.5}),
    (ValueError, "batch_size must be at least 1", {"batch_size": 0}),
    (TypeError, "batch_size must be an integer", {"batch_size": 32.0}),
    (ValueError, "holdout must be at least 0 and below 1, but is 1.0", {"holdout": 1.0}),
    (ValueError, "holdout must be at least 0 and below 1, but is -0.1", {"holdout": -0.1}),
    (ValueError, "holdout must be finite, but is nan", {"holdout": math.nan}),
    (TypeError, "holdout must be a number, but is True", {"holdout": True}),
    (TypeError, "seed must be an integer, but is True", {"seed": True}),
    (TypeError, "seed must be an integer, but is None", {"seed": None}),
    (ValueError, "seed must be at least 0", {"seed": -1}),
    (ValueError, r"below 2\*\*64", {"seed": 2**64}),
]


@pytest.mark.parametrize(("error", "message", "arguments"), BAD, ids=[message for _, message, _ in BAD])
def test_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        fastlam.fit(**{"x": X, "k": K, "epochs": 1} | arguments)
