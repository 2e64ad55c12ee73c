"""How `fit` trains: its arguments, checked before anything is read or simulated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from fastlam.arrays import check_integer
from fastlam.descent import make_probe, optimizer_class

Progress = Callable[[int, int], None]


class Training(NamedTuple):
    """The arguments of `fit` but for x and k, as `checked_training` leaves them."""

    make: Callable[..., torch.optim.Optimizer]
    probe: torch.optim.Optimizer  # as the training's will be, to ask for its kind
    lam0: float
    lr: float | None  # None: "auto"
    epochs: int
    batch_size: int
    holdout: float
    seed: int
    progress: Progress | None


def checked_training(
    *, lam0: Any, optimizer: Any, lr: Any, epochs: Any, batch_size: Any, holdout: Any, seed: Any, progress: Any
) -> Training:
    """The record of these arguments of `fit`; raise TypeError or ValueError unless each is what its docstring says."""
    if progress is not None and not callable(progress):
        raise TypeError(f"fit: progress must be callable, but is {progress!r}")
    lam0, make = _number("lam0", lam0), optimizer_class(optimizer)
    return Training(
        make,
        make_probe(make, lam0),
        lam0,
        None if isinstance(lr, str) and lr == "auto" else _number("lr", lr, above=0.0),
        check_integer(epochs, "fit: epochs", 1, 2**62),
        check_integer(batch_size, "fit: batch_size", 1, 2**62),
        _share(holdout),
        check_integer(seed, "fit: seed", 0, 2**64),
        progress,
    )


def _share(holdout: Any) -> float:
    share = _number("holdout", holdout)
    if not 0 <= share < 1:
        raise ValueError(f"fit: holdout must be at least 0 and below 1, but is {share}")
    return share


def _number(name: str, value: Any, above: float = -math.inf) -> float:
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"fit: {name} must be a number, but is {value!r}")
    if not math.isfinite(value) or value <= above:
        raise ValueError(f"fit: {name} must be finite{'' if above < 0 else f' and above {above}'}, but is {value}")
    return float(value)
