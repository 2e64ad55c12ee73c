"""Descent on (lam s - k)**2, an epoch at a time: by any torch.optim optimizer, or compiled where it is SGD or Adam."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from fastlam.kernels.descent import adam, make_epoch, sgd
from fastlam.kernels.launch import compiled

COMPILED: dict[Any, Any] = {torch.optim.SGD: sgd, torch.optim.Adam: adam}


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
