"""The one-pass loop for NVIDIA GPUs: a block of threads follows the 1024 paths of a leaf of the tree, a thread a lane.

States wait in shared memory while a thread goes from path to path; noise never leaves registers. Every four times the
block folds its lanes: the sums are those of cpu_simulate_mean.py, to the last bit.
"""

import numpy as np
from numba import config, types

from .cpu import LANES, TILE
from .cpu_leaf import make_add
from .cuda import BLOCK, F64, I64, U64, D, I, U, cuda, device, make_cast, make_load, make_noise, make_store
from .cuda_tree import fold_lanes
from .square import add_square

SHARED_BYTES = 48 * 1024  # what every GPU gives to a block
MOST_BYTES = 24 * 1024  # of lanes: several blocks shall find room
EXCHANGE_BYTES = 8 * LANES * BLOCK  # of what neighbours tell each other

if config.ENABLE_CUDASIM:  # which has no warps

    @device
    def sync_pair():
        """Wait for the threads of a warp."""
        cuda.syncthreads()

else:

    @device
    def sync_pair():
        """Wait for the threads of a warp."""
        cuda.syncwarp()


def times_together(n_terms: int, n_tangents: int, dtype: str) -> int:
    """How many of four times are folded at once, for shared memory to do: 0 if it does not for one."""
    states = TILE * (1 + n_tangents) * np.dtype(dtype).itemsize
    fits = min(MOST_BYTES, SHARED_BYTES - EXCHANGE_BYTES - states) // (8 * LANES * n_terms)
    return next((together for together in (4, 2, 1) if together <= fits), 0)


def make_simulate_mean(path, tangents, functional, slopes, sizes, dtype, antithetic, spread):
    """sums[tile, time, term] over the paths of a tile: the leaves of the tree that `cuda.make_fold` adds.

    Arguments as of `cpu_simulate_mean.make_simulate_mean`. With `spread` there is a last term, for the standard error:
    the sum of (f - shift)**2, f of paths or, of antithetic ones, means of pairs.
    """
    step, observe = path
    accumulate, value = functional
    n_coefficients, n_tangents, n_parameters, n_slopes = sizes
    normals = make_noise(dtype, antithetic)
    n_added = 1 + n_slopes
    n_terms = n_added + spread
    add = make_add(accumulate, slopes, observe, n_slopes)
    real = getattr(np, dtype)
    n_dc = n_tangents * n_coefficients
    together = times_together(n_terms, n_tangents, dtype)
    dx_size, lanes_size = max(1, TILE * n_tangents), LANES * together * n_terms
    pairs = spread and antithetic
    exchange_size = EXCHANGE_BYTES // 8 if pairs else 1
    zeros = (0.0,) * n_added
    load_c, load_dc, load_dx = make_load(n_coefficients), make_load(n_dc), make_load(n_tangents)
    cast = make_cast(n_tangents, real)
    load_theta, store_dx, store = make_load(n_parameters), make_store(n_tangents), make_store(n_added)

    @device
    def one_step(x, dx, z, c, dc):
        z = real(z)
        return real(step(x, z, c)), cast(tangents(x, z, c, dx, dc))

    @device
    def square(total, x, shift, j, theta):
        if spread and not pairs:
            total = add_square(total, value(F64(observe(x)), theta) - shift[j], ())
        return total

    @device
    def seen(x, theta):
        return value(F64(observe(x)), theta) if pairs else 0.0

    @device
    def square_pair(totals, exchange, q, lane, k, f, shift, j):
        """The mean of two neighbours, for the even one: unit k LANES / 2 + lane / 2, in its lane of the tree."""
        unit = 0.5 * (f + exchange[q * LANES + (lane ^ 1)]) - shift[j]
        first, second = totals
        return (first, add_square(second, unit, ())) if k & 1 else (add_square(first, unit, ()), second)

    @device
    def put(lanes, slot, lane, totals, squares, halves):
        """Write a time's totals to the lanes."""
        place = slot * n_terms * LANES
        store(lanes, place + lane, LANES, totals)
        if spread:
            place += n_added * LANES
            if not pairs:
                lanes[place + lane] = squares
            elif lane & 1 == 0:
                lanes[place + lane // 2] = halves[0]
                lanes[place + LANES // 2 + lane // 2] = halves[1]

    @device
    def fold(sums, place, lanes, count, lane):
        """Fold the lanes of so many times, and write their sums side by side."""
        cuda.syncthreads()
        fold_lanes(lanes, count * n_terms, lane, LANES)
        if lane < count * n_terms:
            sums[place + lane] = lanes[lane * LANES]
        cuda.syncthreads()

    def simulate_mean(first_tile, n_times, n_paths, first_path, key0, key1, x0, dx0, coefficients, dcoefficients,
                      parameters, shift, sums):  # fmt: skip
        x_held = cuda.shared.array(TILE, real)
        dx_held = cuda.shared.array(dx_size, real)
        lanes = cuda.shared.array(lanes_size, F64)
        exchange = cuda.shared.array(exchange_size, F64)
        lane = cuda.threadIdx.x
        tile = I64(cuda.blockIdx.x)
        begin = (first_tile + tile) * TILE
        n = min(TILE, n_paths - begin)
        reach = (n + LANES - 1) // LANES * LANES if pairs else n  # the same for threads that wait for each other
        first = U64(first_path + U64(begin))
        theta = load_theta(parameters, 0, 1)
        i = lane
        while i < n:
            x_held[i] = x0[0]
            store_dx(dx_held, i, TILE, load_dx(dx0, 0, 1))
            i += LANES
        j = 0
        while j < n_times:
            j1, j2, j3 = min(j + 1, n_times - 1), min(j + 2, n_times - 1), min(j + 3, n_times - 1)
            c0, dc0 = load_c(coefficients, j * n_coefficients, 1), load_dc(dcoefficients, j * n_dc, 1)
            c1, dc1 = load_c(coefficients, j1 * n_coefficients, 1), load_dc(dcoefficients, j1 * n_dc, 1)
            c2, dc2 = load_c(coefficients, j2 * n_coefficients, 1), load_dc(dcoefficients, j2 * n_dc, 1)
            c3, dc3 = load_c(coefficients, j3 * n_coefficients, 1), load_dc(dcoefficients, j3 * n_dc, 1)
            a0, a1, a2, a3 = zeros, zeros, zeros, zeros
            s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
            h0, h1, h2, h3 = (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)
            f0, f1, f2, f3 = 0.0, 0.0, 0.0, 0.0
            i, k = lane, 0
            while i < reach:
                if i < n:
                    z0, z1, z2, z3 = normals(U64(first + U64(i)), U64(j >> 2), key0, key1)
                    x, dx = one_step(x_held[i], load_dx(dx_held, i, TILE), z0, c0, dc0)
                    a0, s0, f0 = add(a0, x, dx, theta), square(s0, x, shift, j, theta), seen(x, theta)
                    x, dx = one_step(x, dx, z1, c1, dc1)
                    a1, s1, f1 = add(a1, x, dx, theta), square(s1, x, shift, j1, theta), seen(x, theta)
                    x, dx = one_step(x, dx, z2, c2, dc2)
                    a2, s2, f2 = add(a2, x, dx, theta), square(s2, x, shift, j2, theta), seen(x, theta)
                    x, dx = one_step(x, dx, z3, c3, dc3)
                    a3, s3, f3 = add(a3, x, dx, theta), square(s3, x, shift, j3, theta), seen(x, theta)
                    x_held[i] = x
                    store_dx(dx_held, i, TILE, dx)
                if pairs:
                    exchange[lane], exchange[LANES + lane] = f0, f1
                    exchange[2 * LANES + lane], exchange[3 * LANES + lane] = f2, f3
                    sync_pair()
                    if i < n:
                        h0 = square_pair(h0, exchange, 0, lane, k, f0, shift, j)
                        h1 = square_pair(h1, exchange, 1, lane, k, f1, shift, j1)
                        h2 = square_pair(h2, exchange, 2, lane, k, f2, shift, j2)
                        h3 = square_pair(h3, exchange, 3, lane, k, f3, shift, j3)
                    sync_pair()
                i += LANES
                k += 1
            left = n_times - j
            place = (tile * n_times + j) * n_terms
            if together == 4:
                put(lanes, 0, lane, a0, s0, h0)
                put(lanes, 1, lane, a1, s1, h1)
                put(lanes, 2, lane, a2, s2, h2)
                put(lanes, 3, lane, a3, s3, h3)
                fold(sums, place, lanes, min(left, 4), lane)
            elif together == 2:
                put(lanes, 0, lane, a0, s0, h0)
                put(lanes, 1, lane, a1, s1, h1)
                fold(sums, place, lanes, min(left, 2), lane)
                if left > 2:
                    put(lanes, 0, lane, a2, s2, h2)
                    put(lanes, 1, lane, a3, s3, h3)
                    fold(sums, place + 2 * n_terms, lanes, min(left - 2, 2), lane)
            else:
                put(lanes, 0, lane, a0, s0, h0)
                fold(sums, place, lanes, 1, lane)
                if left > 1:
                    put(lanes, 0, lane, a1, s1, h1)
                    fold(sums, place + n_terms, lanes, 1, lane)
                if left > 2:
                    put(lanes, 0, lane, a2, s2, h2)
                    fold(sums, place + 2 * n_terms, lanes, 1, lane)
                if left > 3:
                    put(lanes, 0, lane, a3, s3, h3)
                    fold(sums, place + 3 * n_terms, lanes, 1, lane)
            j += BLOCK

    R = types.CPointer(getattr(types, dtype))
    return simulate_mean, types.void(I, I, I, U, U, U, R, R, R, R, D, D, D)
