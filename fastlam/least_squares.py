"""Nonlinear least squares by the method of Levenberg and Marquardt, with Jacobians that are given and lower bounds.

The search moves in those directions alone that the model is known to depend on: along the others it would follow noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

FIRST_DAMPING, LEAST_DAMPING, LAST_DAMPING = 1e-3, 1e-8, 1e12  # beside columns of length 1
ORTHOGONAL = 1e-6  # residuals and what the parameters can still do about them, as a cosine: 1e-12 of the loss
NEARER = 0.1  # of the way to a bound that a step must leave: at the bound itself the slope may vanish
INDEPENDENT = 1e-10  # of the longest of several directions, what is still one of its own
AT_THE_BOUND = 1e-8  # of the first distance to it, from where on a parameter is set there


class Point(NamedTuple):
    """The model (m,) at some values of the parameters, its Jacobian (m, p), and a basis (p, rank) of what is known."""

    fitted: np.ndarray
    jacobian: np.ndarray
    known: np.ndarray


class Search(NamedTuple):
    """Where the search ended."""

    values: np.ndarray
    point: Point
    iterations: int
    converged: bool


def minimise(
    model: Callable[[np.ndarray], Point],
    targets: np.ndarray,
    start: np.ndarray,
    least: np.ndarray,
    rounding: float,
    max_iterations: int,
    progress: Callable[[int, int], None] | None = None,
) -> Search:
    """Minimise `sum((targets - model(values).fitted)**2)` over values >= least.

    Parameters
    ----------
    model : callable
        `model(values)` returns a Point; ValueError: there is none at these values.
    targets : array, shape (m,)
        What the model is to meet.
    start, least : arrays, shape (p,)
        First values, above `least` (-inf: no bound).
    rounding : float
        Relative error of the model: a step that would change it by less is the last.
    max_iterations : int
        Most steps.
    progress : callable, optional
        Called as `progress(iterations_done, max_iterations)`.

    Source: Marquardt, SIAM Journal 11 (1963); More, The Levenberg-Marquardt algorithm (1978), for the cosine.
    """
    values, damping, point = start, FIRST_DAMPING, model(start)
    for iteration in range(max_iterations + 1):
        residuals = targets - point.fitted
        held = (values <= least) & (point.jacobian.T @ residuals <= 0)
        basis = _free_directions(point, held)
        u, s, vt = np.linalg.svd(point.jacobian @ basis, full_matrices=False)
        toward = u.T @ residuals
        enough = max(ORTHOGONAL * np.linalg.norm(residuals), rounding * np.linalg.norm(point.fitted))
        if np.linalg.norm(toward) <= enough:
            return Search(values, point, iteration, True)
        if iteration == max_iterations:
            break
        found = None
        while found is None and damping < LAST_DAMPING:
            trial = _bounded(values, basis @ vt.T @ (s / (s**2 + damping) * toward), start, least)
            found = _if_nearer(model, trial, targets, residuals)
            damping = 10 * damping if found is None else max(damping / 10, LEAST_DAMPING)
        if found is None:
            break
        values, point = trial, found
        if progress is not None:
            progress(iteration + 1, max_iterations)
    return Search(values, point, iteration, False)


def _if_nearer(
    model: Callable[[np.ndarray], Point], trial: np.ndarray, targets: np.ndarray, residuals: np.ndarray
) -> Point | None:
    """The model at the trial, if it is nearer to the targets than by these residuals."""
    try:
        point = model(trial)
    except ValueError:  # outside of what can be simulated
        return None
    left = targets - point.fitted
    return point if left @ left < residuals @ residuals else None


def column_lengths(jacobian: np.ndarray) -> np.ndarray:
    """Euclidean lengths of the columns, 1 for one of zeros."""
    largest = abs(jacobian).max(axis=0)
    units = np.where(largest > 0, largest, 1.0)  # so that no square leaves float64
    lengths: np.ndarray = units * np.linalg.norm(jacobian / units, axis=0)
    return np.where(largest > 0, lengths, 1.0)


def _free_directions(point: Point, held: np.ndarray) -> np.ndarray:
    """Basis (p, r) of what is known, held parameters left out; orthonormal beside columns of length 1."""
    units = column_lengths(point.jacobian)
    u, s, _ = np.linalg.svd(np.where(held, 0.0, units)[:, None] * point.known, full_matrices=False)
    basis: np.ndarray = u[:, s > INDEPENDENT * s.max(initial=0.0)] / units[:, None]
    return basis


def _bounded(values: np.ndarray, step: np.ndarray, start: np.ndarray, least: np.ndarray) -> np.ndarray:
    bounded = np.isfinite(least)
    nearest = np.where(bounded, values - (1 - NEARER) * (values - least), -np.inf)
    trial = np.maximum(values + step, nearest)
    return np.where(bounded & (trial - least <= AT_THE_BOUND * (start - least)), least, trial)
