"""Descent on (lam s - k)**2: by which optimizer, in which units, at which learning rate; and its steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from fastlam.kernels.descent import adam, make_epoch, sgd
from fastlam.kernels.launch import compiled

COMPILED: dict[Any, Any] = {torch.optim.SGD: sgd, torch.optim.Adam: adam}
PLAIN = (torch.optim.SGD, torch.optim.ASGD)  # their steps are lr times the gradient
# LBFGS finds its own length; Adadelta's lr is in units of lam's past changes, Adafactor's of lam.
WITHOUT_UNIT = (torch.optim.LBFGS, torch.optim.Adadelta, torch.optim.Adafactor)
NOT_FOR_LAM = ("optimizer", "muon", "sparseadam")  # the base class; for matrices; for sparse gradients
ORDINARY = (-10, 100)  # powers of two of s and of the residuals that every optimizer takes as they are
FEW_STEPS = 100  # below it Adam's momentum, 0.9 a step, has not died away at the end


class TorchDescent:
    """Steps of a torch.optim optimizer, made by `make([lam], lr=lr)`."""

    def __init__(self, make: Callable[..., torch.optim.Optimizer], lam: float, lr: float, s: Any, k: Any) -> None:
        self.s, self.k = torch.from_numpy(s), torch.from_numpy(k)
        self.parameter = torch.nn.Parameter(torch.tensor(lam, dtype=torch.float64, device="cpu"))
        self.optimizer = make([self.parameter], lr=lr)

    @property
    def lam(self) -> float:
        """Where it is."""
        return self.parameter.item()

    def epoch(self, order: torch.Tensor, batch_size: int) -> float:
        """Train on batches of the times in this order; return the mean loss of the times as they came."""
        total = 0.0
        for batch in order.split(batch_size):
            loss = self.optimizer.step(partial(self._loss, self.s[batch], self.k[batch]))  # type: ignore[arg-type]
            total += batch.numel() * float(loss)
        return total / order.numel()

    @torch.no_grad()
    def _loss(self, s: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Mean of (lam s - k)**2, with its derivative left in lam.grad: in the order in which autograd rounds it."""
        residual = self.parameter * s - k
        self.parameter.grad = (2 / s.numel() * residual * s).sum()
        return residual.square().mean()


class CompiledDescent:
    """The same steps for SGD and Adam at their defaults, in one kernel: equal to rounding."""

    def __init__(self, make: Any, lam: float, lr: float, s: np.ndarray, k: np.ndarray) -> None:
        self.kernel = compiled(make_epoch, COMPILED[make])
        self.s, self.k, self.lr = s, k, lr
        self.state = np.array([lam, 0.0, 0.0, 0.0])

    @property
    def lam(self) -> float:
        """Where it is."""
        return float(self.state[0])

    def epoch(self, order: torch.Tensor, batch_size: int) -> float:
        """Train on batches of the times in this order; return the mean loss of the times as they came."""
        addresses = (self.s.ctypes.data, self.k.ctypes.data, order.data_ptr())
        return float(self.kernel(*addresses, order.numel(), batch_size, self.lr, self.state.ctypes.data))


def descent(make: Any, lam: float, lr: float, s: np.ndarray, k: np.ndarray) -> TorchDescent | CompiledDescent:
    """The fastest descent that takes the steps of `make([lam], lr=lr)` on means `s` and targets `k`, (m,) float64."""
    return (CompiledDescent if make in COMPILED else TorchDescent)(make, lam, lr, s, k)


class Units(NamedTuple):
    """Powers of two out of which s and k are taken for training."""

    s: int
    k: int

    @property
    def lam(self) -> int:
        """Power of two in lam."""
        return self.k - self.s

    def lr(self, optimizer: torch.optim.Optimizer) -> int:
        """Power of two in its learning rate: that of 1 / s**2 for plain descent, of lam for what normalises."""
        if isinstance(optimizer, PLAIN):
            return -2 * self.s
        return 0 if isinstance(optimizer, WITHOUT_UNIT) else self.lam

    def divide(self, s: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return s and k in these units."""
        with np.errstate(over="ignore"):  # of times held out, beside which the others are nothing
            return np.ldexp(s, -self.s), np.ldexp(k, -self.k)


def units(optimizer: torch.optim.Optimizer, s: np.ndarray, k: np.ndarray, lam: float) -> Units:
    """Units in which s and the first residuals are about 1; none at ordinary sizes, so that steps are torch's own.

    Elsewhere products would leave float64, or vanish beside the 1e-8 that Adam adds to a gradient. LBFGS stops at
    gradients of 1e-7 and steps of 1e-9, which is early even at a size of 1e-2: it always trains in these units.
    """
    of_s = exponent(s)
    of_residuals = ([exponent(k)] if k.any() else []) + ([exponent(lam) + of_s] if lam else [])
    found = Units(of_s, max(of_residuals, default=0))
    ordinary = all(ORDINARY[0] <= power <= ORDINARY[1] for power in found)
    return Units(0, 0) if ordinary and not isinstance(optimizer, torch.optim.LBFGS) else found


def exponent(values: np.ndarray | float) -> int:
    """The power of two just above the largest magnitude; 0 for zeros."""
    return math.frexp(float(np.max(np.abs(values))))[1]


def times_power(value: float, power: int) -> float:
    """Return value * 2**power: exact where float64 can hold it, else infinite or rounded."""
    try:
        return math.ldexp(value, power)
    except OverflowError:
        return math.copysign(math.inf, value)


def optimizer_class(optimizer: Any) -> Callable[..., torch.optim.Optimizer]:
    """What makes the optimizer that the user asked for; TypeError or ValueError if it cannot train one number."""
    base = torch.optim.Optimizer
    classes = {n.lower(): c for n, c in vars(torch.optim).items() if isinstance(c, type) and issubclass(c, base)}
    refused = [classes.pop(name) for name in NOT_FOR_LAM if name in classes]
    accepted = f"fit: optimizer must be one of {', '.join(sorted(classes))}, but is"
    if isinstance(optimizer, str):
        if optimizer.lower() not in classes:
            raise ValueError(f"{accepted} {optimizer!r}")
        return cast(Callable[..., torch.optim.Optimizer], classes[optimizer.lower()])
    if not callable(optimizer):
        raise TypeError(f"fit: optimizer must be a torch.optim class or its name, but is {optimizer!r}")
    if optimizer in refused:
        raise ValueError(f"{accepted} {optimizer.__name__}")
    return optimizer


def make_probe(make: Callable[..., torch.optim.Optimizer], lam: float) -> torch.optim.Optimizer:
    """An optimizer as the training's will be, to ask for its kind; TypeError if `make` gives something else."""
    probe = make([torch.nn.Parameter(torch.tensor(lam, dtype=torch.float64, device="cpu"))], lr=1.0)
    if not isinstance(probe, torch.optim.Optimizer):
        raise TypeError(f"fit: optimizer([lam], lr=lr) must give a torch.optim.Optimizer, but gave {probe!r}")
    return probe


def largest_curvature(s: np.ndarray, batch_size: int) -> float:
    """2 mean s**2 over the worst batch there can be: the largest s, in the smallest batch of an epoch."""
    smallest = len(s) % batch_size or batch_size
    return 2 * float(np.mean(np.sort(s)[-smallest:] ** 2))


def largest_lr(optimizer: torch.optim.Optimizer, stable: float) -> float:
    """The largest learning rate that the optimizer can take on every batch; infinity where there is none to name."""
    if not isinstance(optimizer, PLAIN):
        return math.inf
    group = optimizer.param_groups[0]
    momentum = group.get("momentum", 0.0)  # Polyak, 1964; with Nesterov's look-ahead, 1983, less
    return stable * (1 + momentum) / (1 + 2 * momentum if group.get("nesterov") else 1)


def auto_lr(optimizer: torch.optim.Optimizer, way: float, stable: float, n_steps: int) -> float:
    """A learning rate in the optimizer's own units; `way`: how far lam has to go."""
    if isinstance(optimizer, PLAIN):
        return stable / 2
    if isinstance(optimizer, WITHOUT_UNIT):
        return 1.0
    if isinstance(optimizer, torch.optim.Adagrad):  # whose steps shrink from the first on
        return way
    if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)) and n_steps < FEW_STEPS:
        return way * _arriving(n_steps)
    # There in a quarter of the steps, then settling; where there are many, small against the noise of batches.
    step = way * min(0.1, max(4 / n_steps, min(0.02, 10 / n_steps)))
    return min(step, stable / 2) if isinstance(optimizer, torch.optim.RAdam) else step  # it begins as plain descent


@lru_cache(maxsize=FEW_STEPS)
def _arriving(n_steps: int) -> float:
    """The smallest learning rate at which Adam goes from 1 to 0 in so many steps down lam**2."""
    order = torch.zeros(n_steps, dtype=torch.int64, device="cpu")

    def end(lr: float) -> float:
        steps = CompiledDescent(torch.optim.Adam, 1.0, lr, np.ones(1), np.zeros(1))
        steps.epoch(order, 1)
        return steps.lam

    low, high = 0.0, 1 / n_steps  # no step is longer than lr: here it is not past 0 yet
    while end(high) > 0:
        low, high = high, high * 1.1
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if end(middle) > 0 else (low, middle)
    return high
