"""Find lam again from k = lam * mean(x**2): by descent on shuffled times, beside the one division that solves it.

The functional is linear in lam, so x is read once for its means s, and with them every step costs O(batch). On a batch
B the loss is mean_B (lam s - k)**2, its curvature 2 mean_B s**2: descent with a step above 2 / curvature diverges.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch

from fastlam import arrays
from fastlam.closed_form import closed_form_lam
from fastlam.descent import (
    CompiledDescent,
    TorchDescent,
    Units,
    auto_lr,
    descent,
    largest_curvature,
    largest_lr,
    times_power,
    units,
)
from fastlam.devices import check_device, gpu_part
from fastlam.fit_result import FitResult
from fastlam.fit_warnings import warn_if_diverged_or_unsettled, warn_if_unstable
from fastlam.rows import array_means, check_rows
from fastlam.targets import checked_targets
from fastlam.training import Progress, Training, checked_training


def fit(
    x: Any,
    k: Any,
    *,
    lam0: float = 0.0,
    optimizer: Any = "adam",
    lr: float | str = "auto",
    epochs: int = 20,
    batch_size: int = 32,
    holdout: float = 0.2,
    seed: int = 0,
    progress: Progress | None = None,
    device: Any = None,
) -> FitResult:
    """Train `lam` in `k[j] = lam * mean_i x[j, i]**2` on shuffled mini-batches of times.

    Parameters
    ----------
    x : array or tensor, shape (m, n)
        Paths, time-major; float32 or float64; read once where they are (a memory map larger than memory is fine).
    k : array or tensor, shape (m,)
        Targets; float32, float64 or integers.
    lam0 : float
        Where training starts.
    optimizer : str, class or callable
        A `torch.optim` class, its name in any case, or what is called as `optimizer([lam], lr=lr)`.
    lr : float or "auto"
        Learning rate. "auto": half the largest stable one for gradient descent (SGD, ASGD). For optimizers that
        normalise their step a share of the way from `lam0` to the closed form: 1 / 50 in 200 to 500 steps, 4 / steps
        (at most 1 / 10) in fewer, 10 / steps in more; in fewer than 100 steps of Adam, the smallest with which it would
        be there at the last one were every batch the whole; all of the way for Adagrad. 1 for LBFGS, Adadelta and
        Adafactor.
    epochs, batch_size : int
        Passes over the training times, and times in a batch.
    holdout : float
        Share of the times, in [0, 1), never trained on; 0 trains on all.
    seed : int
        Of the hold-out's choice and the shuffling.
    progress : callable, optional
        Called as `progress(epochs_done, epochs)` after each epoch.
    device : str or torch.device, optional
        Where the means of `x` are computed, "cuda" or "cpu": some rows at a time are copied there. By default where
        `x` is. What follows takes the means alone, on the CPU.

    Returns
    -------
    FitResult

    Notes
    -----
    The steps are those of the plain torch loop on float64 means. Where the largest mean or residual is below 2**-10 or
    above 2**100, and always for LBFGS, which stops at absolute tolerances, s and k are first divided by powers of two
    that bring them to about 1, and `lr` is taken with them: any means do whose lam float64 can hold.

    Raises
    ------
    OSError, ImportError
        No GPU, or a package that it needs is missing; what, and what brings it.
    TypeError, ValueError
        Bad arguments; values in x or k that are not finite, with the first position; x that is zero everywhere; a
        closed form that float64 cannot hold.

    Warns
    -----
    UserWarning
        Before the first step, if `lr` is above what plain gradient descent can take. After the last, if training
        diverged: lam is not finite, or ten times as far from the closed form as ever before the first step and moving
        away. If with `lr="auto"` it ended more than 3 standard errors and 0.001 of its size from the closed form.

    Examples
    --------
    >>> import fastlam, numpy as np
    >>> times = np.arange(1, 51) / 50
    >>> x = fastlam.simulate(fastlam.Brownian(sigma=0.5), times, n_paths=1000, seed=1)
    >>> result = fastlam.fit(x, fastlam.mean_square(x, 0.25), optimizer="sgd")
    >>> round(result.lam, 4), round(result.closed_form, 4), len(result.holdout)
    (0.25, 0.25, 10)

    Source: Nocedal and Wright, Numerical Optimization, chapter 3, for the step that descent can take.
    """
    training = checked_training(
        lam0=lam0, optimizer=optimizer, lr=lr, epochs=epochs, batch_size=batch_size, holdout=holdout, seed=seed,
        progress=progress,
    )  # fmt: skip
    return fit_paths(x, k, training, check_device("fit: device", device), stacklevel=5)


def fit_paths(x: Any, k: Any, training: Training, device: str | None = None, stacklevel: int = 4) -> FitResult:
    """`fit`, its other arguments checked; warnings point `stacklevel` functions up from those that give them."""
    start = time.perf_counter()
    x = _paths(x)
    targets = checked_targets("fit", k, len(x), "row of x")
    means = row_means(x, device)
    with torch._C._DisableFuncTorch():  # which would wrap what the training makes
        return fit_means(means, targets, time.perf_counter() - start, training, stacklevel)


def row_means(x: Any, device: str | None = None) -> np.ndarray:
    """Mean of x**2 of each row in float64, computed on the device, by default where x is."""
    if arrays.on_gpu(x) or device is not None:
        means: np.ndarray = gpu_part("gpu_rows", "fit: x").host_square_means(x, device)
        return means
    return array_means(arrays.host_array(x, "fit: x"))


def fit_means(s: np.ndarray, k: np.ndarray, seconds: float, training: Training, stacklevel: int = 3) -> FitResult:
    """`fit_paths` where the means `s` of x**2 (m,) are known, in float64, and took so many seconds; `k` is checked."""
    start = time.perf_counter()
    for j in np.flatnonzero(~np.isfinite(s))[:1]:
        raise ValueError(f"fit: x must be finite, but row {j} has mean square {s[j]}; x**2 must be finite too")
    means, targets = torch.from_numpy(s), torch.from_numpy(k)
    generator = torch.Generator().manual_seed(training.seed)
    train, held = _split(means.numel(), training.holdout, generator)
    training = training._replace(batch_size=min(training.batch_size, train.numel()))
    make, probe, lam0 = training.make, training.probe, training.lam0
    s, target = means[train].numpy(), targets[train].numpy()
    if not s.any():
        raise ValueError("fit: x is zero at every training time, or its squares are: no lam can be told from another")
    closed_form, stderr, size = closed_form_lam(s, target)
    unit = units(probe, s, target, lam0)
    s, target = unit.divide(s, target)
    stable = 2 / largest_curvature(s, training.batch_size)
    if training.lr is None:
        way = max(abs(closed_form - lam0), 1e-6 * size) or 1.0  # above 0, wherever training starts
        rate = auto_lr(probe, times_power(way, -unit.lam), stable, training.epochs * -(-len(s) // training.batch_size))
    else:
        rate = times_power(training.lr, -unit.lr(probe))
    warn_if_unstable(rate, largest_lr(probe, stable), unit.lr(probe), stacklevel)
    steps = descent(make, times_power(lam0, -unit.lam), rate, s, target)
    out_of_sample = unit.divide(means[held].numpy(), targets[held].numpy())
    history = _train(steps, (s, target), out_of_sample, unit, training, generator)
    done = time.perf_counter()

    result = FitResult(
        lam=history["lam"][-1],
        stderr=stderr,
        closed_form=closed_form,
        difference=history["lam"][-1] - closed_form,
        history=history,
        max_stable_lr=times_power(stable, -2 * unit.s),
        lr=times_power(rate, unit.lr(probe)),
        optimizer=type(probe).__name__,
        epochs=training.epochs,
        batch_size=training.batch_size,
        seed=training.seed,
        lam0=lam0,
        holdout=sorted(held.tolist()),
        holdout_loss=history["holdout_loss"][-1],
        means=means.numpy(),
        targets=targets.numpy(),
        seconds={"means": seconds, "train": done - start},
    )
    warn_if_diverged_or_unsettled(result, size, automatic=training.lr is None, stacklevel=stacklevel)
    return result


def _train(
    steps: TorchDescent | CompiledDescent,
    train: tuple[np.ndarray, np.ndarray],
    held: tuple[np.ndarray, np.ndarray],
    unit: Units,
    training: Training,
    generator: torch.Generator,
) -> dict[str, list[Any]]:
    history: dict[str, list[Any]] = {"epoch": [], "train_loss": [], "holdout_loss": [], "lam": [], "grad_norm": []}
    for epoch in range(1, training.epochs + 1):
        loss = steps.epoch(torch.randperm(len(train[0]), generator=generator, device="cpu"), training.batch_size)
        with np.errstate(over="ignore", invalid="ignore"):  # of a training that explodes
            residual, held_residual = steps.lam * train[0] - train[1], steps.lam * held[0] - held[1]
            held_loss = float(np.mean(held_residual**2)) if len(held[0]) else None
            history["epoch"].append(epoch)
            history["train_loss"].append(times_power(loss, 2 * unit.k))
            history["holdout_loss"].append(None if held_loss is None else times_power(held_loss, 2 * unit.k))
            history["lam"].append(times_power(steps.lam, unit.lam))
            history["grad_norm"].append(times_power(float(abs(np.mean(2 * residual * train[0]))), unit.s + unit.k))
        if training.progress is not None:
            training.progress(epoch, training.epochs)
        if not math.isfinite(history["lam"][-1]):
            break
    return history


def _paths(x: Any) -> Any:
    """Paths (m, n), checked without reading them."""
    if arrays.kind(x, "fit: x") == "torch":
        x = arrays.unwrapped(x, "fit: x")
    if getattr(x, "is_meta", False):
        raise ValueError("fit: x is on meta, where tensors have no values")
    check_rows(x, "fit")
    if x.ndim != 2:
        raise ValueError(f"fit: x must have shape (m, n), but has {tuple(x.shape)}")
    return x


def _split(count: int, share: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of training and hold-out times, both ascending."""
    held = min(count - 1, max(1, round(share * count))) if share > 0 else 0
    order = torch.randperm(count, generator=generator, device="cpu")
    return order[held:].sort().values, order[:held].sort().values
