"""Which parameters the Jacobian of a model tells apart, where Monte Carlo noise is in the Jacobian too; and in words.

Slices of paths give Jacobians that are independent of one another. A direction in the space of the parameters counts as
seen where the mean Jacobian along it stands above the noise of that mean, and above a share of what it is at most.
Signal and noise are compared in all directions at once: singular values of the Jacobian in the metric of the noise. So
a column that is nothing but noise takes nothing from the others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastlam.least_squares import column_lengths

# Relative to columns of length 1. What lies below would have its standard error multiplied by more than a thousand.
SHARE = 1e-3
# Standard errors of the mean of 16 slices: noise along one curve stands out as much once in 6,000 times, by Student's t
# with 15 degrees of freedom; noise that is spread over more curves, less often.
STANDS_OUT = 5.0
# A parameter whose part of an unseen direction, all in shares of the parameters' own sizes, is above this is not known.
# What is below may be noise in the direction.
MOVES = 0.05
AT_ZERO = 1e-12  # stands for the size of a parameter that is 0


class Identification(NamedTuple):
    """What is known of the parameters at a point.

    `known` (p, rank) are directions that are seen, in units of the parameters; `unknown` (p, p - rank) those that are
    not, each parameter in shares of its size; `loose` (p,) says which parameters have a part in these. `condition` is
    that of the Jacobian with columns of length 1.
    """

    known: np.ndarray
    unknown: np.ndarray
    loose: np.ndarray
    condition: float


def identify(jacobians: np.ndarray, values: np.ndarray) -> Identification:
    """What independent Jacobians (slices, m, p) of one model at `values` (p,) tell of its parameters.

    A parameter is known if it has no part in what is not seen, and if less would be seen without its column: else the
    others can do all that it does.
    """
    mean = jacobians.mean(axis=0)
    units, p = column_lengths(mean), len(values)
    scaled = jacobians / units
    directions, s = _seen(scaled)
    unknown = np.linalg.qr(directions[:, s < 1] / (units * _sizes(values))[:, None])[0]
    rank = int((s >= 1).sum())
    spare = [p == 1 or int((_seen(np.delete(scaled, i, axis=2))[1] >= 1).sum()) == rank for i in range(p)]
    loose = (np.linalg.norm(unknown, axis=1) > MOVES) | (np.array(spare) & (rank < p))
    singular = np.linalg.svd(mean / units, compute_uv=False)
    condition = float(singular[0] / singular[-1]) if len(mean) >= p and singular[-1] > 0 else np.inf
    return Identification(directions[:, s >= 1] / units[:, None], unknown, loose, condition)


def _seen(jacobians: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions (p, p), columns of the Jacobians being about 1 long, and how far each stands out: seen from 1 on."""
    n, m, p = jacobians.shape
    mean = jacobians.mean(axis=0)
    deviations = (jacobians - mean).reshape(-1, p)
    noise = STANDS_OUT**2 * deviations.T @ deviations / (n * (n - 1)) if n > 1 else np.zeros((p, p))
    floor = SHARE * max(float(np.linalg.norm(mean, 2)), SHARE)
    root = np.linalg.cholesky(noise + floor**2 * np.eye(p))
    whitened = np.zeros((m + p, p))  # rows of zeros, so that there are p directions however few the times are
    whitened[:m] = np.linalg.solve(root, mean.T).T
    _, s, directions = np.linalg.svd(whitened, full_matrices=False)
    return np.linalg.solve(root.T, directions.T), s


def sentences(
    found: Identification, names: tuple[str, ...], values: np.ndarray, jacobian: np.ndarray, n_paths: int
) -> list[str]:
    """What cannot be known, in plain English: a sentence for each direction, in as few parameters as may be."""
    units, sizes = column_lengths(jacobian), _sizes(values)
    scaled = jacobian / units
    directions = _sparse(np.where(found.loose[:, None], found.unknown, 0.0))
    least = np.minimum(MOVES, abs(directions).max(axis=1, initial=0) / 2)  # so that each is named somewhere
    said = []
    for direction in directions.T:
        step = direction * sizes * units
        step /= abs(step).max()
        blind = np.linalg.norm(scaled @ step) <= SHARE * np.linalg.norm(scaled, 2) * np.linalg.norm(step)
        tell = "" if blind else f", as far as {n_paths:,} paths can tell,"
        first, *others = np.flatnonzero((abs(direction) > least) & found.loose).tolist()
        if not others:
            said.append(f"k does not depend on {names[first]} near {values[first]:.4g}{tell.rstrip(',')}")
            continue
        shares = [f"{names[first]} changes by {direction[first]:+.2g}%"]
        shares += [f"{names[i]} by {direction[i]:+.2g}%" for i in others]
        together = _listed([names[i] for i in (first, *others)])
        said.append(f"only a combination of {together} is known: k stays the same{tell} where {_listed(shares)}")
    return said


def _sizes(values: np.ndarray) -> np.ndarray:
    return np.where(values == 0, AT_ZERO, values)


def _sparse(directions: np.ndarray) -> np.ndarray:
    """The same space by columns of as many zeros as elimination brings; the largest element of each is 1."""
    columns = directions.T.copy()
    done = np.zeros((len(columns), 1), bool)
    while not done.all():
        row, pivot = np.unravel_index(np.argmax(np.where(done, -1.0, abs(columns))), columns.shape)
        done[row] = True
        for other in range(len(columns)):
            if other != row:
                columns[other] -= columns[row] * (columns[other, pivot] / columns[row, pivot])
    return (columns / abs(columns).max(axis=1, keepdims=True)).T


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
