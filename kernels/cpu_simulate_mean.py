"""The one-pass loop for the CPU: noise, steps, functional and reduction of a tile of paths, in the first-level cache.

Claims, chunks and budgets as in cpu.py; the tree of additions is that of `cpu.make_mean`. A chunk is an aligned power
of two of tiles: its sums are nodes of the tree.
"""

import numpy as np
from numba import carray, njit, types

from .cpu import F64, LANES, TILE, U32, U64, WORDS, I, make_noise
from .cpu_leaf import make_add, make_leaf, make_seen, make_spread
from .memory import claim, load, pointer, stack, stopped, store
from .standard_error import standard_error

LOOK = 1024  # times after which a tile looks whether it is given up


@njit(inline="always")
def add_nodes(nodes, left, right, answer):
    """nodes[answer] = nodes[left] + nodes[right]."""
    for i in range(nodes.shape[1]):
        nodes[answer, i] = nodes[left, i] + nodes[right, i]


def make_simulate_mean(path, tangents, functional, slopes, sizes, dtype, antithetic, spread):
    """sums[chunk, 0, time, term] over paths; the other levels of sums[chunk] hold nodes of the tree on the way.

    `path` is (step, observe), `tangents(x, z, c, dx, dc)` gives the derivatives of the state after a step, `functional`
    is (accumulate, value), `slopes(x, totals, dx, parameters)` adds its derivatives, `sizes` counts coefficients,
    tangents, the functional's parameters and its slopes. With `spread` there is a last term, for the standard error.
    `x0_at` is the position of x0 in `parameters`, the functional's and then the process's; `dx0_at` is that of its
    tangent, -1 where it is not carried.
    """
    step, accumulate, value = path[0], *functional
    observe = make_seen(path[1], dtype)
    n_coefficients, n_tangents, n_parameters, n_slopes = sizes
    fill_words, two_normals, pairs_per_block = make_noise(dtype, antithetic)
    n_added = 1 + n_slopes
    n_terms = n_added + spread
    leaf = make_leaf(make_add(accumulate, slopes, observe, n_slopes), n_added, n_tangents)
    squares = make_spread(value, observe, antithetic)
    real = getattr(np, dtype)
    n_dc = n_tangents * n_coefficients
    x_size, dx_size, lanes_size = 2 * TILE, max(1, 2 * TILE * n_tangents), LANES * n_added
    dx_second = TILE * n_tangents  # where the tangents of the second of two times begin

    @njit(inline="always")
    def start(x, dx, x0, dx0_at, n):
        for i in range(n):
            x[TILE + i] = x0
        for k in range(n_tangents):
            for i in range(n):
                dx[dx_second + k * TILE + i] = real(k == dx0_at)

    @njit(inline="always")
    def two_steps(x, dx, words, pair, first, n, c0, c1, dc0, dc1):
        for i in range(n):
            z0, z1 = two_normals(words, pair, i, first)
            x_old, dx_old = x[TILE + i], load(dx, dx_second + i, TILE, n_tangents)
            x[i] = step(x_old, z0, c0)
            store(dx, i, TILE, tangents(x_old, z0, c0, dx_old, dc0))
            x_new, dx_new = x[i], load(dx, i, TILE, n_tangents)  # rounded: elements of float32 may answer in float64
            x[TILE + i] = step(x_new, z1, c1)
            store(dx, dx_second + i, TILE, tangents(x_new, z1, c1, dx_new, dc1))

    @njit(inline="always")
    def reduce(answer, j, lanes, n, x, at, dx, dx_at, shifts, theta):
        leaf(answer, j * n_terms, lanes, n, x, at, dx, dx_at, theta)
        if spread:
            squares(answer, j * n_terms + n_added, lanes, n, x, at, shifts[j], theta)

    def simulate_mean(claims, n_chunks, budget, first_chunk, tiles, levels, n_times, n_paths, first_path, key0, key1,
                      x0_at, dx0_at, coefficients, dcoefficients, parameters, shift, sums):  # fmt: skip
        words = carray(stack(U32, WORDS), (4, TILE))
        x, dx, lanes = stack(real, x_size), stack(real, dx_size), stack(F64, lanes_size)
        c, dc = pointer(coefficients, real), pointer(dcoefficients, real)
        all_theta = pointer(parameters, F64)
        theta, x0 = load(all_theta, 0, 1, n_parameters), real(all_theta[x0_at])
        shifts = pointer(shift, F64)
        all_nodes = carray(pointer(sums, F64), (n_chunks, levels, n_times * n_terms))
        for done in range(budget):
            chunk = claim(claims) if claims else done
            if chunk >= n_chunks:
                return False
            nodes = all_nodes[chunk]
            chunk_start = (first_chunk + chunk) * tiles * TILE
            n_tiles = min(tiles, (n_paths - chunk_start + TILE - 1) // TILE)
            for tile in range(n_tiles):
                level = 0
                while tile >> level & 1:
                    level += 1
                begin = chunk_start + tile * TILE
                n = min(TILE, n_paths - begin)
                first = first_path + U64(begin)
                start(x, dx, x0, dx0_at, n)
                for j in range(0, n_times, 2):
                    if j % LOOK == 0 and claims and stopped(claims):
                        return False
                    pair = (j // 2) % pairs_per_block
                    if pair == 0:
                        fill_words(words, first, n, U64(j // (2 * pairs_per_block)), key0, key1)
                    both = j + 1 < n_times
                    k = j + both
                    c0, c1 = (
                        load(c, j * n_coefficients, 1, n_coefficients),
                        load(c, k * n_coefficients, 1, n_coefficients),
                    )
                    two_steps(
                        x, dx, words, pair, first, n, c0, c1, load(dc, j * n_dc, 1, n_dc), load(dc, k * n_dc, 1, n_dc)
                    )
                    reduce(nodes[level], j, lanes, n, x, 0, dx, 0, shifts, theta)
                    if both:
                        reduce(nodes[level], k, lanes, n, x, TILE, dx, dx_second, shifts, theta)
                for below in range(level):
                    add_nodes(nodes, below, level, level)
            last = 0
            while not n_tiles >> last & 1:
                last += 1
            for level in range(last + 1, levels):
                if n_tiles >> level & 1:
                    add_nodes(nodes, level, last, level)
                    last = level
            if last > 0:
                nodes[0] = nodes[last]
        return True

    U = types.uint64
    return simulate_mean, types.boolean(I, I, I, I, I, I, I, I, U, U, U, I, I, I, I, I, I, I)


def make_standard_errors():
    """errors[j] = the standard error of the mean of n values, with these sums of squares and means about any point."""

    def fill(squares, means, n, errors, n_times):
        about, mean = carray(pointer(squares, F64), (n_times,)), carray(pointer(means, F64), (n_times,))
        answer = carray(pointer(errors, F64), (n_times,))
        for j in range(n_times):
            answer[j] = standard_error(about[j], mean[j], n)

    return fill, types.void(I, I, types.float64, I, I)
