"""Means of x**2 over simulated paths in float64, as `fit` takes them of stored ones, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastlam.elements import Dynamics, record
from fastlam.functionals import Square
from fastlam.one_pass import mean_table, progress_to
from fastlam.stream import Stream


def square_means(
    dynamics: Dynamics,
    values: np.ndarray,
    grid: np.ndarray,
    which: Stream,
    wanted: tuple[int, ...] = (),
    progress: Callable[[int, int], None] | None = None,
    caller: str = "fit",
    device: str | None = None,
) -> np.ndarray:
    """Mean over paths of x**2 at each time, and its derivatives: (1 + len(wanted), m) float64, in one pass.

    Not yet rounded to the dtype of the paths: to the last bit the means that `fit` takes of the stored paths.

    Parameters
    ----------
    dynamics : Dynamics
        The elements of the process.
    values : array, shape (K,), float64
        Its parameters, x0 the last.
    grid : array, shape (m,), float64
        Times.
    which : Stream
        Which paths.
    wanted : tuple of int
        Positions in `values`, ascending, of the derivatives asked for.
    progress : callable, optional
        Called now and then as `progress(paths_done, n_paths)`.
    caller : str
        The function that was called, for messages.
    device : str, optional
        A GPU that computes it, as `devices.check_device` names it; by default the CPU does.
    """
    problem = caller, dynamics, record(Square.handle), values
    with progress_to(progress):
        return mean_table(*problem, wanted, grid, which, rounded_to="float64", device=device)
