"""The fits that `fastlam fit` makes: of paths from files, of simulated ones, stored or in one pass.

Simulated paths train lam with `[0, n)` of the seed's family, and try it on `[n, 2n)`.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

import fastlam
from fastlam.arrays import host_array, rounded
from fastlam.devices import beside
from fastlam.elements import record
from fastlam.fit import fit_means, fit_paths, row_means
from fastlam.means import MOST_PATHS
from fastlam.parameters import floats
from fastlam.plot import MAX_PATHS
from fastlam.progress_bar import Advance
from fastlam.square_means import square_means
from fastlam.squares import times_lam
from fastlam.stream import Stream, stream
from fastlam.targets import checked_targets
from fastlam.training import Training


class Fitted(NamedTuple):
    """What was found, and what of its making is reported."""

    result: fastlam.FitResult
    n_paths: int
    drawn: np.ndarray | None  # paths (m, some or all)
    times: np.ndarray | None
    holdout_paths_loss: float | None  # on paths that had no part in the training
    seconds: dict[str, float]


class Simulated(NamedTuple):
    """A problem made: the paths `[0, n_paths)` of the seed's family, and targets by their means."""

    process: fastlam.Process
    times: np.ndarray
    n_paths: int
    seed: int
    dtype: str
    lam: float
    noise: float  # standard deviation of the targets', relative; at least 0
    device: str | None  # a GPU that computes, as `devices.check_device` names it


def fit_read(
    x: np.ndarray, k: np.ndarray, times: np.ndarray | None, training: Training, read: float, device: str | None
) -> Fitted:
    """Fit lam to paths from a file, which took so many seconds to read."""
    result = fit_paths(x, k, training, device)
    return Fitted(result, x.shape[1], x, times, None, {"read": read, **result.seconds})


def fit_stored(problem: Simulated, training: Training, advance: Advance) -> Fitted:
    """Fit lam to simulated paths, all of them in memory; the others take their place there."""
    start = time.perf_counter()
    process, _, n_paths, seed, dtype = problem[:5]
    times = beside(problem.times, problem.device)
    x = fastlam.simulate(process, times, n_paths, seed=seed, dtype=dtype)
    k = _noisy(problem, host_array(fastlam.mean_square(x, problem.lam), "fit: k"))
    simulated = time.perf_counter()
    advance("means", 0, 0)
    result = fit_paths(x, k, training)
    trained = time.perf_counter()
    advance("validate", 0, 0)
    drawn = np.array(host_array(x[:, :MAX_PATHS], "fit: x"))
    fastlam.simulate(process, times, n_paths, seed=seed, dtype=dtype, first_path=n_paths, out=x)
    loss = _loss(result, row_means(x))
    seconds = {"simulate": simulated - start, **result.seconds, "validate": time.perf_counter() - trained}
    return Fitted(result, n_paths, drawn, problem.times, loss, seconds)


def fit_in_one_pass(problem: Simulated, training: Training, advance: Advance) -> Fitted:
    """The same to the last bit, but for the paths to draw, with no path stored."""
    start = time.perf_counter()
    which = stream("fit", problem.seed, 0, problem.n_paths, False, problem.dtype, problem.times, MOST_PATHS)
    s = _means(problem, which, advance, "paths")
    exact = times_lam(problem.lam, rounded(s, which.real), "fit")  # as mean_square's answer
    k = checked_targets("fit", _noisy(problem, exact), len(s), "time")
    result = fit_means(s, k, time.perf_counter() - start, training)
    trained = time.perf_counter()
    loss = _loss(result, _means(problem, which._replace(first_path=which.n_paths), advance, "validate"))
    seconds = {**result.seconds, "validate": time.perf_counter() - trained}
    return Fitted(result, problem.n_paths, None, problem.times, loss, seconds)


def _means(problem: Simulated, which: Stream, advance: Advance, part: str) -> np.ndarray:
    dynamics = record(problem.process.handle)
    values = np.array(floats("fit", problem.process.parameters(), dynamics))
    advanced = lambda *done: advance(part, *done)  # noqa: E731
    table = square_means(dynamics, values, problem.times, which, progress=advanced, device=problem.device)
    return table[0]


def _noisy(problem: Simulated, k: np.ndarray) -> np.ndarray:
    exact: np.ndarray = k.astype(np.float64)
    return exact * (1 + problem.noise * np.random.default_rng(problem.seed).standard_normal(len(k)))


def _loss(result: fastlam.FitResult, means: np.ndarray) -> float:
    """Mean squared error of the trained lam on the means of other paths, at all times."""
    with np.errstate(over="ignore", invalid="ignore"):  # of a training that exploded
        return float(np.mean((result.lam * means - result.targets) ** 2))
