"""Find lam again from k = lam * mean(x**2): by descent on shuffled times, beside the one division that solves it.

The functional is linear in lam, so x is read once for its means s, and with them every step costs O(batch). On a batch
B the loss is mean_B (lam s - k)**2, its curvature 2 mean_B s**2: descent with a step above 2 / curvature diverges.
"""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from fastlam import arrays
from fastlam.descent import CompiledDescent, TorchDescent, descent
from fastlam.fit_result import FitResult
from fastlam.rows import array_means, array_of, check_rows

NOT_FOR_LAM = ("optimizer", "muon", "sparseadam")  # the base class; for matrices; for sparse gradients
ADAPTIVE_STEP = 0.02  # of lam's own size, for optimizers whose step does not depend on the gradient's

Progress = Callable[[int, int], None]


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
) -> FitResult:
    """Train `lam` in `k[j] = lam * mean_i x[j, i]**2` on shuffled mini-batches of times.

    Parameters
    ----------
    x : array or tensor, shape (m, n)
        Paths, time-major; float32 or float64; read once (a memory map larger than memory is fine).
    k : array or tensor, shape (m,)
        Targets.
    lam0 : float
        Where training starts.
    optimizer : str, class or callable
        A `torch.optim` class, its name in any case, or what is called as `optimizer([lam], lr=lr)`.
    lr : float or "auto"
        Learning rate. "auto": half the largest stable one for gradient descent; for optimizers that normalise their
        step, a fiftieth of lam's size (the root mean square of k over that of s), more where there are few steps.
    epochs, batch_size : int
        Passes over the training times, and times in a batch.
    holdout : float
        Share of the times, in [0, 1), never trained on; 0 trains on all.
    seed : int
        Of the hold-out's choice and the shuffling.
    progress : callable, optional
        Called as `progress(epochs_done, epochs)` after each epoch.

    Returns
    -------
    FitResult

    Raises
    ------
    TypeError, ValueError
        Bad arguments; values in x or k that are not finite, with the first position; x that is zero everywhere.

    Warns
    -----
    UserWarning
        Before the first step, if `lr` is above what plain gradient descent can take; and if training diverged.

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
    start = time.perf_counter()
    means, targets = _problem(x, k)
    read = time.perf_counter()
    generator = torch.Generator().manual_seed(arrays.check_integer(seed, "fit: seed", 0, 2**64))
    train, held = _split(means.numel(), holdout, generator)
    batch_size = min(arrays.check_integer(batch_size, "fit: batch_size", 1, 2**62), train.numel())
    epochs = arrays.check_integer(epochs, "fit: epochs", 1, 2**62)
    s, target = means[train].numpy(), targets[train].numpy()
    if not s.any():
        raise ValueError("fit: x is zero at every training time: no lam can be told from another")
    stable = 2 / _largest_curvature(s, batch_size)
    make = _optimizer_class(optimizer)
    start_from = _number("lam0", lam0)
    probe = make([torch.nn.Parameter(torch.tensor(start_from, dtype=torch.float64, device="cpu"))], lr=1.0)
    n_steps = epochs * -(-len(s) // batch_size)
    rate = _auto_lr(probe, s, target, stable, n_steps) if lr == "auto" else _number("lr", lr, above=0.0)
    _warn_if_unstable(probe, rate, stable)
    steps = descent(make, start_from, rate, s, target)
    out_of_sample = means[held].numpy(), targets[held].numpy()
    history = _train(steps, (s, target), out_of_sample, epochs, batch_size, generator, progress)
    done = time.perf_counter()

    closed_form = float((s @ target) / (s @ s))
    return FitResult(
        lam=steps.lam,
        stderr=_stderr(s, target, closed_form),
        closed_form=closed_form,
        difference=steps.lam - closed_form,
        history=history,
        max_stable_lr=stable,
        lr=rate,
        optimizer=type(probe).__name__,
        epochs=epochs,
        batch_size=batch_size,
        holdout=sorted(held.tolist()),
        holdout_loss=history["holdout_loss"][-1],
        means=means.numpy(),
        targets=targets.numpy(),
        seconds={"means": read - start, "train": done - read},
    )


def _train(
    steps: TorchDescent | CompiledDescent,
    train: tuple[np.ndarray, np.ndarray],
    held: tuple[np.ndarray, np.ndarray],
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
    progress: Progress | None,
) -> dict[str, list[Any]]:
    history: dict[str, list[Any]] = {"epoch": [], "train_loss": [], "holdout_loss": [], "lam": [], "grad_norm": []}
    for epoch in range(1, epochs + 1):
        loss = steps.epoch(torch.randperm(len(train[0]), generator=generator, device="cpu"), batch_size)
        with np.errstate(over="ignore", invalid="ignore"):  # of a training that explodes
            residual, held_residual = steps.lam * train[0] - train[1], steps.lam * held[0] - held[1]
            history["epoch"].append(epoch)
            history["train_loss"].append(loss)
            history["holdout_loss"].append(float(np.mean(held_residual**2)) if len(held[0]) else None)
            history["lam"].append(steps.lam)
            history["grad_norm"].append(float(abs(np.mean(2 * residual * train[0]))))
        if progress is not None:
            progress(epoch, epochs)
        if not math.isfinite(steps.lam):
            warnings.warn(f"fit: training diverged in epoch {epoch}", stacklevel=3)
            break
    return history


def _problem(x: Any, k: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(s, k) in float64, checked."""
    for name, array in (("x", x), ("k", k)):
        if getattr(array, "is_meta", False):
            raise ValueError(f"fit: {name} is on meta, where tensors have no values")
    paths = array_of(x) if arrays.is_torch(x, "fit: x") else x
    check_rows(paths)
    if paths.ndim != 2:
        raise ValueError(f"fit: x must have shape (m, n), but has {tuple(paths.shape)}")
    targets = array_of(k) if arrays.is_torch(k, "fit: k") else k
    arrays.check_float(targets, "fit: k")
    targets = np.array(targets, np.float64)
    if targets.shape != paths.shape[:1]:
        raise ValueError(
            f"fit: k must have shape {paths.shape[:1]}, one target for each row of x, but has {targets.shape}"
        )
    for j in np.flatnonzero(~np.isfinite(targets))[:1]:
        raise ValueError(f"fit: k must be finite, but k[{j}] = {targets[j]}")
    means = array_means(paths)
    for j in np.flatnonzero(~np.isfinite(means))[:1]:
        raise ValueError(f"fit: x must be finite, but row {j} has mean square {means[j]}")
    return torch.from_numpy(means), torch.from_numpy(targets)


def _split(count: int, holdout: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of training and hold-out times, both ascending."""
    share = _number("holdout", holdout)
    if not 0 <= share < 1:
        raise ValueError(f"fit: holdout must be at least 0 and below 1, but is {share}")
    held = min(count - 1, max(1, round(share * count))) if share > 0 else 0
    order = torch.randperm(count, generator=generator, device="cpu")
    return order[held:].sort().values, order[:held].sort().values


def _largest_curvature(s: np.ndarray, batch_size: int) -> float:
    """2 mean s**2 over the worst batch there can be: the largest s, in the smallest batch of an epoch."""
    smallest = len(s) % batch_size or batch_size
    return 2 * float(np.mean(np.sort(s)[-smallest:] ** 2))


def _optimizer_class(optimizer: Any) -> Callable[..., torch.optim.Optimizer]:
    if isinstance(optimizer, str):
        classes = {name.lower(): value for name, value in vars(torch.optim).items() if inspect.isclass(value)}
        names = sorted(n for n, c in classes.items() if issubclass(c, torch.optim.Optimizer) and n not in NOT_FOR_LAM)
        if optimizer.lower() not in names:
            raise ValueError(f"fit: optimizer must be one of {', '.join(names)}, but is {optimizer!r}")
        return cast(Callable[..., torch.optim.Optimizer], classes[optimizer.lower()])
    if not callable(optimizer):
        raise TypeError(f"fit: optimizer must be a torch.optim class or its name, but is {optimizer!r}")
    return optimizer


def _auto_lr(optimizer: torch.optim.Optimizer, s: np.ndarray, k: np.ndarray, stable: float, n_steps: int) -> float:
    """A learning rate in the optimizer's own units."""
    if isinstance(optimizer, (torch.optim.SGD, torch.optim.ASGD)):
        return stable / 2
    if isinstance(optimizer, (torch.optim.LBFGS, torch.optim.Adadelta, torch.optim.Adafactor)):
        return 1.0  # LBFGS finds its own length; the others' are in units of lam's past changes and of lam
    size = float(np.linalg.norm(k) / np.linalg.norm(s)) or 1.0
    if isinstance(optimizer, torch.optim.Adagrad):  # whose steps shrink from the first on
        return size
    step = size * max(ADAPTIVE_STEP, min(0.1, 4 / n_steps))  # there in a quarter of the steps, then settling
    return min(step, stable / 2) if isinstance(optimizer, torch.optim.RAdam) else step  # it begins as plain descent


def _warn_if_unstable(optimizer: torch.optim.Optimizer, lr: float, stable: float) -> None:
    if not isinstance(optimizer, (torch.optim.SGD, torch.optim.ASGD)):
        return
    group = optimizer.param_groups[0]
    momentum = group.get("momentum", 0.0)  # Polyak, 1964; with Nesterov's look-ahead, 1983, less
    limit = stable * (1 + momentum) / (1 + 2 * momentum if group.get("nesterov") else 1)
    if lr > limit:
        warnings.warn(
            f"fit: lr = {lr:.4g} is above {limit:.4g}, the largest that gradient descent can take on every batch: "
            f'the training may explode. lr = {limit / 2:.4g} would do, as would lr="auto"',
            stacklevel=3,
        )


def _stderr(s: np.ndarray, k: np.ndarray, closed_form: float) -> float:
    """Standard error of least squares, residuals independent but of any variances (White, 1980)."""
    n = len(s)
    if n < 2:
        return math.nan
    return math.sqrt(n / (n - 1) * float(np.sum((s * (k - closed_form * s)) ** 2))) / float(s @ s)


def _number(name: str, value: Any, above: float = -math.inf) -> float:
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"fit: {name} must be a number, but is {value!r}")
    if not math.isfinite(value) or value <= above:
        raise ValueError(f"fit: {name} must be finite{'' if above < 0 else f' and above {above}'}, but is {value}")
    return float(value)
