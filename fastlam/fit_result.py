"""What `fit` found, as a record that can be written and drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlam.result_json import as_json, fields_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class FitResult:
    """What `fit` found.

    Attributes
    ----------
    lam : float
        The trained value.
    stderr : float
        Standard error of the least-squares `lam`, from its residuals on the training times, taken as independent but
        of any variances (White, 1980); NaN for one time.
    closed_form, difference : float
        Least squares on the training times, `sum(s k) / sum(s**2)`; and `lam - closed_form`.
    history : dict of lists
        Per epoch: `epoch`, `train_loss` (mean over its batches), `holdout_loss` (None without hold-out), `lam` and
        `grad_norm` (on all training times) at its end.
    max_stable_lr : float
        2 over the largest curvature that a batch can have: above it plain gradient descent may diverge.
    lr, optimizer, epochs, batch_size, seed, lam0
        What training ran with: by these, with `len(holdout) / len(targets)` as its `holdout`, `fit` repeats it.
    holdout : list of int
        Positions of the times never trained on.
    holdout_loss : float or None
        Mean squared error there, after training.
    means, targets : arrays, shape (m,), float64
        s = mean over paths of x**2, and k.
    seconds : dict
        Spent on `means` (reading x) and on `train`.

    Examples
    --------
    >>> import fastlam, json, numpy as np
    >>> x = fastlam.simulate(fastlam.Brownian(), np.arange(1, 101) / 100, n_paths=1000, seed=1)
    >>> k = fastlam.mean_square(x, lam=0.25)
    >>> result = fastlam.fit(x, k, optimizer="sgd", seed=3)
    >>> abs(result.difference) < 1e-6
    True
    >>> ran = json.loads(result.to_json())
    >>> same = {name: ran[name] for name in ("lr", "optimizer", "epochs", "batch_size", "seed", "lam0")}
    >>> again = fastlam.fit(x, k, holdout=len(ran["holdout"]) / len(ran["targets"]), **same)
    >>> again.lam == result.lam
    True
    """

    lam: float
    stderr: float
    closed_form: float
    difference: float
    history: dict[str, list[Any]] = field(repr=False)
    max_stable_lr: float
    lr: float
    optimizer: str
    epochs: int
    batch_size: int
    seed: int
    lam0: float
    holdout: list[int] = field(repr=False)
    holdout_loss: float | None
    means: np.ndarray = field(repr=False)
    targets: np.ndarray = field(repr=False)
    seconds: dict[str, float]

    def to_json(self) -> str:
        """All fields by their names, as JSON; what is not finite becomes null."""
        return as_json(fields_of(self))

    def plot(self, path: str | Path | None = None, *, paths: Any = None, times: Any = None) -> Figure:
        """Draw the fit: some of `paths` (m, n) over `times` (m,), k against the fit, loss and `lam` by epoch.

        Needs `pip install "fastlam[cli]"`. Saves to `path` if one is given, and returns the matplotlib Figure.
        """
        from fastlam.plot import plot_fit

        figure = plot_fit(self, paths=paths, times=times)
        if path is not None:
            figure.savefig(path)
        return figure
