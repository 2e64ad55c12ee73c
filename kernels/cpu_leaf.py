"""The leaf of the reduction tree over a tile of paths in memory: sums of several terms at once, and of squares.

Lane l of 128 adds elements l, l + 128, ... in order, then lanes fold by halves: as in `cpu.make_mean`.
"""

import numpy as np
from numba import njit

from .cpu import F64, LANES, ROWS, TILE
from .memory import load, store
from .square import add_square


def make_seen(observe, dtype):
    """seen(x): what stored paths hold, which is rounded to their dtype."""
    real = getattr(np, dtype)

    @njit(inline="always")
    def seen(x):
        return real(observe(x))

    return seen


def make_add(accumulate, slopes, observe, n_slopes):
    """add(totals, x, dx, parameters): f to the first total, its `n_slopes` slopes to the others."""
    if n_slopes == 0:

        @njit(inline="always")
        def add(totals, x, dx, parameters):
            return (accumulate(totals[0], F64(observe(x)), parameters),)

    else:

        @njit(inline="always")
        def add(totals, x, dx, parameters):
            first = (accumulate(totals[0], F64(observe(x)), parameters),)
            return first + slopes(F64(x), totals[1:], dx, parameters)

    return add


@njit(inline="always")
def fold_lanes(lanes, n_terms, half):
    """Add the second half of each term's lanes to the first."""
    for term in range(n_terms):
        for lane in range(half):
            lanes[term * LANES + lane] += lanes[term * LANES + lane + half]


@njit(inline="always")
def fold(answer, place, lanes, n_terms):
    """Fold each term's lanes to one, and write these side by side."""
    fold_lanes(lanes, n_terms, 64)
    fold_lanes(lanes, n_terms, 32)
    fold_lanes(lanes, n_terms, 16)
    fold_lanes(lanes, n_terms, 8)
    fold_lanes(lanes, n_terms, 4)
    fold_lanes(lanes, n_terms, 2)
    for term in range(n_terms):
        answer[place + term] = lanes[term * LANES] + lanes[term * LANES + 1]


def make_leaf(add, n_terms, n_tangents):
    """leaf(answer, place, lanes, n, x, dx, parameters): the terms of x[:n] and dx[:, :n], up to 1024 paths."""
    zeros = (0.0,) * n_terms

    @njit(inline="always")
    def add_row(lanes, k, count, x, at, dx, dx_at, parameters):
        for lane in range(count):
            i = k * LANES + lane
            totals = load(lanes, lane, LANES, n_terms)
            totals = add(totals, x[at + i], load(dx, dx_at + i, TILE, n_tangents), parameters)
            store(lanes, lane, LANES, totals)

    @njit(inline="always")
    def leaf(answer, place, lanes, n, x, at, dx, dx_at, parameters):
        if n == TILE:
            for lane in range(LANES):
                totals = zeros
                for k in range(ROWS):
                    i = k * LANES + lane
                    totals = add(totals, x[at + i], load(dx, dx_at + i, TILE, n_tangents), parameters)
                store(lanes, lane, LANES, totals)
        else:
            for lane in range(LANES):
                store(lanes, lane, LANES, zeros)
            for k in range(n // LANES):
                add_row(lanes, k, LANES, x, at, dx, dx_at, parameters)
            add_row(lanes, n // LANES, n % LANES, x, at, dx, dx_at, parameters)
        fold(answer, place, lanes, n_terms)

    return leaf


def make_spread(value, observe, pairs):
    """spread(answer, place, lanes, n, x, shift, parameters): sum of (f - shift)**2, f of paths or means of pairs."""
    size = 2 if pairs else 1

    @njit(inline="always")
    def f(x, i, parameters):
        return value(F64(observe(x[i])), parameters)

    @njit(inline="always")
    def spread(answer, place, lanes, n, x, at, shift, parameters):
        for lane in range(LANES):
            lanes[lane] = 0.0
        for k in range((n // size + LANES - 1) // LANES):
            for lane in range(min(LANES, n // size - k * LANES)):
                i = at + (k * LANES + lane) * size
                if pairs:
                    unit = 0.5 * (f(x, i, parameters) + f(x, i + 1, parameters)) - shift
                else:
                    unit = f(x, i, parameters) - shift
                lanes[lane] = add_square(lanes[lane], unit, ())
        fold(answer, place, lanes, 1)

    return spread
