"""fit at any size of x and k: the powers of two that training takes out of them change nothing but the units."""

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
X = RNG.standard_normal((50, 40)) * np.sqrt(np.arange(1, 51) / 25)[:, None]
K = fastlam.mean_square(X, LAM) * (1 + 0.01 * RNG.standard_normal(50))
SIZES = [(-500, -1000), (-265, -20), (-30, 0), (100, 60), (256, 512), (500, 900), (500, 100)]  # powers of two of x, k
KINDS = ["adam", "sgd", "lbfgs", "asgd", "rmsprop", "adagrad", "nadam"]


def fit(of_x, of_k, **options):
    return fastlam.fit(np.ldexp(X, of_x), np.ldexp(K, of_k), **{"epochs": 100} | options)


@pytest.mark.parametrize(("of_x", "of_k"), SIZES)
@pytest.mark.parametrize("optimizer", KINDS)
def test_every_size_is_the_same_training(optimizer, of_x, of_k):
    """Bit for bit the training at another size that is not ordinary, 2**-20, in units of its own."""
    base, result = fit(-10, -20, optimizer=optimizer), fit(of_x, of_k, optimizer=optimizer)
    of_lam = of_k - 2 * of_x
    assert base.lam == close(LAM, rel=0.02)  # the noise is a hundredth
    for name in ("lam", "closed_form", "stderr", "difference"):
        assert getattr(result, name) == math.ldexp(getattr(base, name), of_lam)
    assert result.history["lam"] == [math.ldexp(lam, of_lam) for lam in base.history["lam"]]
    with np.errstate(over="ignore"):
        losses = np.ldexp(base.history["train_loss"], 2 * (of_k + 20))
        slopes = np.ldexp(base.history["grad_norm"], 2 * of_x + of_k + 40)
        stable = np.ldexp(base.max_stable_lr, -4 * (of_x + 10))
    np.testing.assert_array_equal(result.history["train_loss"], losses)
    np.testing.assert_array_equal(result.history["grad_norm"], slopes)
    assert result.max_stable_lr == stable
    json.loads(result.to_json())


@pytest.mark.parametrize(("of_x", "of_k"), [(0, 0), (-5, -10), (49, 98)])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_ordinary_sizes_are_left_alone(optimizer, of_x, of_k):
    """The compiled steps on s and k as they are, once more: the same float64."""
    lr = fit(of_x, of_k, optimizer=optimizer, epochs=100).lr
    result = fit(of_x, of_k, optimizer=optimizer, lr=lr, holdout=0, epochs=2, batch_size=50)
    lam = torch.nn.Parameter(torch.tensor(0.0, dtype=torch.float64))
    descent = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]([lam], lr=lr)
    s, k = torch.as_tensor(result.means), torch.as_tensor(result.targets)
    for _ in range(2):
        descent.zero_grad()
        (lam * s - k).square().mean().backward()
        descent.step()
    assert result.lam == close(lam.item(), rel=1e-12)  # sums of 50 in another order; Adam's 1e-8 would show as 1e-9


@pytest.mark.parametrize("optimizer", KINDS)
@pytest.mark.parametrize(("of_x", "of_k"), [(-100, -200), (100, 200), (-10, -300)])
def test_a_rate_is_in_the_units_of_the_arguments(of_x, of_k, optimizer):
    """The rate that auto chose, given back as a number, takes the same steps."""
    automatic = fit(of_x, of_k, optimizer=optimizer)
    assert fit(of_x, of_k, optimizer=optimizer, lr=automatic.lr).history == automatic.history


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e-3, 1.0, 1e6])
def test_lbfgs_does_not_stop_at_its_absolute_tolerances(size):
    exact = size * fastlam.mean_square(X, LAM)
    result = fastlam.fit(math.sqrt(size) * X, exact, optimizer="lbfgs")
    assert result.lam == close(LAM, rel=1e-6)  # its own, 1e-7 of a gradient of about 1


@pytest.mark.parametrize("lam0", [-1e200, 1e-200, 1e30])
def test_lam0_of_any_size(lam0):
    """Least squares does not feel lam0; training comes from it to float64 of itself."""
    exact = fastlam.mean_square(X, LAM)
    result = fastlam.fit(X, exact, lam0=lam0, optimizer="sgd", lr=fit(0, 0).max_stable_lr / 2, epochs=200)
    assert result.closed_form == close(LAM, rel=1e-14)
    assert result.stderr == close(fastlam.fit(X, exact, optimizer="sgd").stderr, rel=1e-9)
    assert result.lam0 == lam0
    assert abs(result.lam - LAM) <= 1e-12 * max(1, abs(lam0))


@pytest.mark.parametrize(("of_x", "of_k"), [(-500, 100), (500, -100), (-400, 900), (500, -1000)])
def test_a_lam_beyond_float64(of_x, of_k):
    with pytest.raises(ValueError, match=r"fit: k / mean\(x\*\*2\) is about 2\*\*-?\d+, which float64 cannot hold"):
        fit(of_x, of_k)


@pytest.mark.parametrize(("of_x", "word"), [(600, "row 0 has mean square inf"), (-700, "zero at every training time")])
def test_squares_beyond_float64(of_x, word):
    with pytest.raises(ValueError, match=word):
        fit(of_x, 0)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_integer_targets(kind, dtype):
    k = np.arange(1, 51).astype(dtype)
    result, want = fastlam.fit(X, kind(k), optimizer="sgd"), fastlam.fit(X, k.astype(float), optimizer="sgd")
    assert (result.lam, result.history) == (want.lam, want.history)
    assert result.targets.dtype == np.float64
    np.testing.assert_array_equal(result.targets, k)
