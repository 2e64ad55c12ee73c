"""Pictures of a fit: some paths, the targets against the fit, the loss, and lam by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError:
    raise ImportError('pictures need matplotlib: pip install "fastlam[cli]"') from None

if TYPE_CHECKING:
    from fastlam import FitResult

BLUE, ORANGE, GREEN, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#000000",
)  # of Okabe and Ito, 2008: safe to the colour-blind
MAX_PATHS = 50
OFF_THE_CHART = 1e100
MAX_MARKERS = 60  # of a curve by epoch
MAX_POINTS = 2000  # of a curve: as many as a picture has columns


def plot_fit(result: FitResult, paths: Any = None, times: Any = None, n_paths: int | None = None) -> Figure:
    """Draw a fit in four panels, or in three where there are no paths to show.

    Parameters
    ----------
    result : FitResult
        What `fastlam.fit` returned, with m targets.
    paths : array or tensor, shape (m, n), optional
        The paths that were fitted; the first 50 are drawn, and only they are read.
    times : array or tensor, shape (m,), optional
        For the horizontal axes; by default the positions 0..m-1.
    n_paths : int, optional
        How many paths were fitted, where `paths` are but the first of them; by default n.

    Returns
    -------
    matplotlib.figure.Figure
        Made without pyplot, so that nothing needs closing: `figure.savefig("fit.png")`.

    Raises
    ------
    ImportError
        matplotlib is missing.
    ValueError
        `paths` or `times` do not have the m times of `result`.

    Examples
    --------
    >>> import fastlam, numpy as np
    >>> x = fastlam.simulate(fastlam.Brownian(), np.arange(1.0, 41.0), n_paths=100, seed=7)
    >>> result = fastlam.fit(x, fastlam.mean_square(x, lam=0.25), epochs=2)
    >>> len(plot_fit(result, paths=x).axes)
    4
    """
    m = len(result.targets)
    if paths is not None and (paths.ndim != 2 or paths.shape[0] != m):
        raise ValueError(f"plot_fit: paths must have shape ({m}, n), as targets are {m}, but has {tuple(paths.shape)}")
    if times is not None and tuple(times.shape) != (m,):
        raise ValueError(f"plot_fit: times must have shape ({m},), as targets are {m}, but has {tuple(times.shape)}")
    grid = np.arange(m) if times is None else np.asarray(times, np.float64)
    figure = Figure(figsize=(11, 7.5), dpi=110, layout="constrained")
    upper = ["targets", "targets"] if paths is None else ["paths", "targets"]
    panels: list[Any] = [upper, ["loss", "lam"]]
    axes = figure.subplot_mosaic(panels)
    if paths is not None:
        _draw_paths(axes["paths"], paths, grid, paths.shape[1] if n_paths is None else n_paths)
    _draw_targets(axes["targets"], result, grid)
    for name in upper:
        axes[name].set_xlabel("time position" if times is None else "time")
        if times is None:
            axes[name].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _draw_loss(axes["loss"], result)
    _draw_lam(axes["lam"], result)
    for axis in axes.values():
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.5)
    return figure


def _draw_paths(axis: Axes, paths: Any, grid: np.ndarray, n_paths: int) -> None:
    rows = _thin(np.arange(len(grid)))
    some = np.asarray(paths[:: rows[1] - rows[0] if len(rows) > 1 else 1, :MAX_PATHS])
    axis.plot(grid[rows], some, color=BLUE, linewidth=0.6, alpha=0.45, marker="." if len(some) == 1 else None)
    axis.set_title(f"{some.shape[1]:,} of {n_paths:,} paths")
    axis.set_ylabel("x")


def _draw_targets(axis: Axes, result: FitResult, grid: np.ndarray) -> None:
    held = np.zeros(len(grid), bool)
    held[result.holdout] = True
    curve = _thin(np.arange(len(grid)))
    for rows, colour, marker, name in (
        (_thin(np.flatnonzero(~held)), BLUE, ".", "k, trained on"),
        (_thin(np.flatnonzero(held)), ORANGE, "x", "k, held out"),
    ):
        if rows.size:
            axis.plot(grid[rows], result.targets[rows], marker, color=colour, markersize=5, alpha=0.7, label=name)
    axis.plot(
        grid[curve],
        _drawable(result.lam * result.means[curve]),
        color=BLACK,
        linewidth=1.2,
        label="fit, lam · mean of x²",
    )
    axis.set_title(f"Targets and fit at {len(grid):,} times")
    axis.set_ylabel("k")
    axis.legend(frameon=False)


def _draw_loss(axis: Axes, result: FitResult) -> None:
    positive = True
    for key, colour, marker, name in (
        ("train_loss", BLUE, "o", "training times"),
        ("holdout_loss", ORANGE, "x", "hold-out times"),
    ):
        values = _drawable([np.nan if loss is None else loss for loss in result.history[key]])
        if not np.isnan(values).all():
            few = marker if len(values) <= MAX_MARKERS else None
            axis.plot(result.history["epoch"], values, marker=few, markersize=4, color=colour, label=name)
            positive = positive and bool(np.nanmin(values) > 0)
    if axis.lines:
        axis.set_yscale("log" if positive else "linear")
        axis.legend(frameon=False)
    else:
        axis.text(0.5, 0.5, "the loss was never finite", ha="center", va="center", transform=axis.transAxes)
    axis.set_title("Loss")
    axis.set_xlabel("epoch")
    axis.set_ylabel("mean squared error")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _draw_lam(axis: Axes, result: FitResult) -> None:
    epochs, lam = result.history["epoch"], _drawable(result.history["lam"])
    few = "o" if len(epochs) <= MAX_MARKERS else None
    axis.plot(epochs, lam, marker=few, markersize=4, color=BLUE, label="trained")
    axis.axhline(result.closed_form, color=GREEN, linestyle="--", label=f"closed form, {result.closed_form:.6g}")
    axis.set_title(f"lam = {result.lam:.6g}, standard error {result.stderr:.1e}")
    axis.set_xlabel("epoch")
    axis.set_ylabel("lam")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.legend(frameon=False)


def _drawable(values: Any) -> np.ndarray:
    """Values as float64, NaN where a training that diverged has left what an axis can hold."""
    array = np.array(values, np.float64)
    array[~(np.abs(array) < OFF_THE_CHART)] = np.nan
    return array


def _thin(rows: np.ndarray) -> np.ndarray:
    """At most MAX_POINTS of the rows, evenly."""
    return rows[:: -(-len(rows) // MAX_POINTS) or 1]
