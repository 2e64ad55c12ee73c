"""Find parameters of a diffusion, and lam, from k[j] = lam * E x[j]**2, by means over paths that are never stored.

The paths are the same at every step of the search: k is then a smooth function of the parameters, and the derivatives
along the paths are its very Jacobian.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from fastlam import arrays
from fastlam.calibration_result import CalibrationResult
from fastlam.devices import check_device, gpu_part
from fastlam.elements import Dynamics, record
from fastlam.identification import Identification, identify, sentences
from fastlam.least_squares import Point, Search, column_lengths, minimise
from fastlam.means import MOST_PATHS
from fastlam.parameters import check_value, checked
from fastlam.processes import Process, check_process
from fastlam.square_means import square_means
from fastlam.stream import Stream, check_times, stream, time_grid
from fastlam.targets import checked_targets

SLICES = 16  # of the training paths, between which the noise in the Jacobian is seen
ROUNDINGS = 64  # of the paths' dtype: a relative change in k that is no more than they


def calibrate(
    process: Process,
    times: Any,
    k: Any,
    *,
    learn: str | Sequence[str] = ("sigma",),
    lam: float = 1.0,
    n_paths: int = 2**16,
    seed: int = 0,
    antithetic: bool = False,
    dtype: Any = None,
    max_iterations: int = 50,
    progress: Callable[[int, int], None] | None = None,
    device: Any = None,
) -> CalibrationResult:
    """Estimate parameters in `k[j] = lam * E x[j]**2` by least squares, and say which of them k cannot tell apart.

    The expectation is the mean over the paths `[0, n_paths)` of the seed's family, in one pass that stores none; the
    paths `[n_paths, 2 n_paths)` are for validation.

    Parameters
    ----------
    process : Process
        Any that `simulate_mean_square` takes. Its parameters are where the search starts, or what stays.
    times : array or tensor, shape (m,)
        Strictly increasing, `times[0] >= 0`; float32, float64 or integer.
    k : array or tensor, shape (m,)
        Targets; float32, float64 or integers.
    learn : sequence of str
        What to estimate: parameters of the process, and "lam". Those with a lower bound must start above it.
    lam : float
        Its value, or where it starts.
    n_paths : int
        Number of training paths, and of validation paths.
    seed : int
        In [0, 2**64).
    antithetic : bool
        Path 2q + 1 of the family has path 2q's noise negated: fewer paths do where x**2 is nearly linear in the noise.
        Then `n_paths` must be even.
    dtype : dtype, optional
        Of the paths, float32 or float64; by default that of `times`, float32 for integers.
    max_iterations : int
        Most steps of the search.
    progress : callable, optional
        Called as `progress(steps_done, max_iterations)`.
    device : str or torch.device, optional
        Where the paths are simulated, "cuda" or "cpu"; by default where `times` is.

    Returns
    -------
    CalibrationResult
        Parameters that k does not identify have the estimate None.

    Raises
    ------
    OSError, ImportError
        No GPU, or a package that it needs is missing; what, and what brings it.
    TypeError, ValueError
        Bad arguments, named; a start at which k is not finite.

    Warns
    -----
    UserWarning
        What was learned is not identified by k, with the combinations that are not; or the search has not converged.

    Notes
    -----
    A direction of the parameters is taken for identified if the Jacobian along it, its columns scaled to length 1, is
    above 0.001 of its largest and above 5 of its own Monte Carlo standard errors, found from 16 slices of the paths;
    the search moves in such directions alone. So for a Brownian motion from `x0 = 0`, where k is
    `lam (mu**2 t**2 + sigma**2 t)`, no number of paths identifies all of lam, mu and sigma; with a known `x0` other
    than 0 they are identified, given paths enough. Identification is local: of what only differs in sign, as -mu from
    mu there, the search finds one; and where the slope vanishes between the two, at `mu = 0`, mu is not identified.

    Examples
    --------
    >>> import fastlam, numpy as np
    >>> times = np.arange(1, 51) / 25
    >>> k = 0.2**2 / (2 * 1.5) * (1 - np.exp(-2 * 1.5 * times))
    >>> start = fastlam.OrnsteinUhlenbeck(theta=1.0, sigma=1.0)
    >>> result = fastlam.calibrate(start, times, k, learn=("theta", "sigma"))
    >>> {name: round(value, 1) for name, value in result.estimates.items()}
    {'theta': 1.5, 'sigma': 0.2}

    Source: Seber and Wild, Nonlinear Regression (1989), sections 2.1 and 3.4; pathwise derivatives: Glasserman, Monte
    Carlo Methods in Financial Engineering (2003), section 7.2.
    """
    begun = time.perf_counter()
    check_process("calibrate", process)
    check_times("calibrate", times)
    which = stream("calibrate", seed, 0, n_paths, antithetic, dtype, times, MOST_PATHS)
    if which.antithetic and which.n_paths % 2:
        raise ValueError(f"calibrate: with antithetic, n_paths must be even: whole pairs, but is {which.n_paths}")
    grid = time_grid("calibrate", times)
    targets = checked_targets("calibrate", k, len(grid), "time")
    most = arrays.check_integer(max_iterations, "calibrate: max_iterations", 1, 2**31)
    if progress is not None and not callable(progress):
        raise TypeError(f"calibrate: progress must be callable, but is {progress!r}")
    if device is None and arrays.on_gpu(times):
        device = f"cuda:{gpu_part('gpu', 'calibrate: times').device(times)}"
    where = check_device("calibrate: device", device)
    values = _values(process, lam)
    names = _learned(learn, values)
    model = _Model(record(process.handle), values, names, grid, which, targets, where)
    start = _start(model, values)
    rounding = ROUNDINGS * float(np.finfo(which.real).eps)
    search = minimise(model, model.targets, start, model.least, rounding, most, progress)
    result = _result(repr(process), model, values, start, search, begun)
    _warn(result)
    return result


class _Model:
    """k and its Jacobian in the learned parameters, on some paths; both over the size of the targets.

    So no square of theirs leaves float64.
    """

    def __init__(
        self, dynamics: Dynamics, values: dict[str, float], names: tuple[str, ...], grid: np.ndarray, which: Stream,
        targets: np.ndarray, device: str | None,
    ) -> None:  # fmt: skip
        self.device = device
        self.dynamics, self.names, self.grid, self.which = dynamics, names, grid, which
        self.unit = float(abs(targets).max()) or 1.0
        self.targets = targets / self.unit
        self.everything = np.array(list(values.values()))  # lam, then the parameters of the process
        order = list(values)
        self.positions = [order.index(name) for name in names]
        self.wanted = tuple(sorted(position - 1 for position in self.positions if position))
        least = [-np.inf, *(-np.inf if bound is None else bound for bound in dynamics.least)]
        self.least = np.array(least)[self.positions]

    def __call__(self, learned: np.ndarray) -> Point:
        """On the training paths."""
        means, jacobians = self.on_slices(learned)
        weights = [n_paths / self.which.n_paths for _, n_paths in _slices(self.which)]
        known = identify(jacobians, learned).known
        return Point(np.tensordot(weights, means, 1), np.tensordot(weights, jacobians, 1), known)

    def on_slices(self, learned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The model (slices, m) and its Jacobians (slices, m, p) on parts of the training paths."""
        pairs = [self.on_paths(learned, *part) for part in _slices(self.which)]
        return np.array([k for k, _ in pairs]), np.array([jacobian for _, jacobian in pairs])

    def on_paths(self, learned: np.ndarray, first_path: int, n_paths: int) -> tuple[np.ndarray, np.ndarray]:
        """The model (m,) and its Jacobian (m, p); ValueError where they are not finite."""
        everything = self.everything.copy()
        everything[self.positions] = learned
        which = self.which._replace(first_path=first_path, n_paths=n_paths)
        with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)  # of means that are not finite: raised below
            paths = self.grid, which, self.wanted
            table = square_means(self.dynamics, everything[1:], *paths, caller="calibrate", device=self.device)
            table /= self.unit
            slopes = dict(zip(self.wanted, everything[0] * table[1:], strict=True))
            columns = [slopes[position - 1] if position else table[0] for position in self.positions]
            k, jacobian = everything[0] * table[0], np.stack(columns, axis=1)
        if not (np.isfinite(k).all() and np.isfinite(jacobian).all()):
            where = ", ".join(f"{name} = {value:g}" for name, value in zip(self.names, learned.tolist(), strict=True))
            raise ValueError(f"calibrate: k or its derivatives are not finite at {where}")
        return k, jacobian


def _values(process: Process, lam: Any) -> dict[str, float]:
    """Lam, then the parameters of the process, as numbers."""
    parameters = process.parameters()
    if "lam" in parameters:
        raise ValueError("calibrate: the process has a parameter named lam, which is what multiplies E x**2: rename it")
    names = ("lam", *parameters)
    given = [checked("calibrate: lam", lam), *parameters.values()]
    numbers = [float(value.item() if isinstance(value, torch.Tensor) else value) for value in given]
    values = dict(zip(names, numbers, strict=True))
    for name, least in zip(values, (None, *record(process.handle).least), strict=True):
        check_value(f"calibrate: {name}", values[name], least)
    return values


def _learned(learn: Any, values: dict[str, float]) -> tuple[str, ...]:
    names = (learn,) if isinstance(learn, str) else tuple(learn) if isinstance(learn, Sequence) else ()
    accepted = f"calibrate: learn must be some of {', '.join(values)}, each once, but is {learn!r}"
    if not all(isinstance(name, str) for name in names) or not isinstance(learn, (str, Sequence)):
        raise TypeError(accepted)
    if not names or len(set(names)) < len(names) or not set(names) <= set(values):
        raise ValueError(accepted)
    return names


def _start(model: _Model, values: dict[str, float]) -> np.ndarray:
    """What is learned, where the search starts: above the lower bounds, at which the slope may vanish."""
    start = np.array([values[name] for name in model.names])
    for i in np.flatnonzero(start <= model.least)[:1]:
        name, least = model.names[i], model.least[i]
        raise ValueError(f"calibrate: {name} is learned, so it must start above {least:g}, its lower bound")
    return start


def _slices(which: Stream) -> list[tuple[int, int]]:
    """(first path, number of paths) of about equal parts of the training paths."""
    whole = 2 if which.antithetic else 1  # pairs stay together
    n = which.n_paths // whole
    count = min(SLICES, n)
    edges = [whole * (n * i // count) for i in range(count + 1)]
    return [(first, last - first) for first, last in pairwise(edges)]


def _result(
    process: str, model: _Model, values: dict[str, float], start: np.ndarray, search: Search, begun: float
) -> CalibrationResult:
    done, names, which = time.perf_counter(), model.names, model.which
    point, unit = search.point, model.unit
    means, jacobians = model.on_slices(search.values)
    seen = identify(jacobians, search.values)
    residuals = model.targets - point.fitted
    errors, noise = _errors(point.jacobian, seen, residuals, means)
    validation = model.targets - model.on_paths(search.values, which.n_paths, which.n_paths)[0]
    estimates = [None if loose else value for loose, value in zip(seen.loose, search.values.tolist(), strict=True)]
    rank = seen.known.shape[1]
    with np.errstate(over="ignore"):
        loss, validation_loss = (float(np.mean((unit * values) ** 2)) for values in (residuals, validation))
    return CalibrationResult(
        estimates=dict(zip(names, estimates, strict=True)),
        stderr=dict(zip(names, errors, strict=True)),
        monte_carlo_stderr=dict(zip(names, noise, strict=True)),
        identified=rank == len(names),
        unidentified=sentences(seen, names, search.values, point.jacobian, which.n_paths),
        rank=rank,
        condition=seen.condition,
        start=dict(zip(names, start.tolist(), strict=True)),
        fixed={name: value for name, value in values.items() if name not in names},
        loss=loss,
        validation_loss=validation_loss,
        converged=search.converged,
        iterations=search.iterations,
        process=process,
        n_paths=which.n_paths,
        seed=which.seed,
        antithetic=which.antithetic,
        dtype=which.real,
        times=model.grid,
        targets=unit * model.targets,
        fitted=unit * point.fitted,
        residuals=unit * residuals,
        seconds={"search": done - begun, "check": time.perf_counter() - done},
    )


def _errors(jacobian: np.ndarray, seen: Identification, residuals: np.ndarray, means: np.ndarray) -> list[list[float]]:
    """Standard errors, by the residuals and by means on slices of the paths; infinite where k tells nothing."""
    units = column_lengths(jacobian)  # so that no square leaves float64
    known = units[:, None] * seen.known
    solve = known @ np.linalg.pinv(jacobian / units @ known)  # what a change of k does to the parameters
    free, n = len(residuals) - known.shape[1], len(means)
    error = np.linalg.norm(solve, axis=1) * np.sqrt(residuals @ residuals / free if free else np.nan)
    deviations = solve @ (means - means.mean(axis=0)).T
    spread = np.linalg.norm(deviations, axis=1) / np.sqrt(n * (n - 1) if n > 1 else np.nan)
    return [np.where(seen.loose, np.inf, errors / units).tolist() for errors in (error, spread)]


def _warn(result: CalibrationResult) -> None:
    if not result.identified:
        warnings.warn(
            f"calibrate: not identified: {'; '.join(result.unidentified)}. Leave out of learn what keeps its value",
            stacklevel=3,
        )
    elif not result.converged:
        warnings.warn(
            f"calibrate: not converged in {result.iterations} steps: start nearer, or take more max_iterations",
            stacklevel=3,
        )
