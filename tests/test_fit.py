"""fit against its docstring: what it finds, what it never sees, and that it leaves everything else alone."""

from functools import partial

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


def recording(optimizer, trace):
    """A subclass whose steps append (loss, lam after the step) to `trace`."""

    class Recording(optimizer):
        def step(self, closure):
            loss = super().step(closure)
            trace.append((float(loss), self.param_groups[0]["params"][0].item()))
            return loss

    return Recording


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
            fastlam.fit(X, K, optimizer=name, lr=0.01, epochs=1)
        except Exception as reason:
            refused.append((name, reason))
    assert refused == []


@pytest.mark.parametrize(
    ("times", "share", "count"), [(200, 0.2, 40), (200, 0.5, 100), (10, 0.01, 1), (10, 0.99, 9), (200, 0.0, 0)]
)
def test_holdout_share(times, share, count):
    held = fastlam.fit(X[:times], K[:times], holdout=share, lr=0.01, epochs=1).holdout
    assert len(set(held)) == count
    assert held == sorted(held)
    assert all(0 <= j < times for j in held)


def test_holdout_is_the_seeds():
    held = [fastlam.fit(X, K, seed=seed, lr=0.01, epochs=1).holdout for seed in (1, 1, np.uint64(2), 2**64 - 1)]
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


@pytest.mark.parametrize(("optimizer", "lr"), [(torch.optim.SGD, 0.03), (torch.optim.Adam, 0.01)])
def test_same_descent_as_the_training_loop(optimizer, lr):
    """The loop of README, "Use in training code", in autograd on x, after every step: equal to an ulp or two."""
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


def test_progress():
    calls = []
    fastlam.fit(X, K, lr=0.01, epochs=3, progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]


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
