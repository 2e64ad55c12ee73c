"""The one-pass loop for NVIDIA GPUs: a block of threads follows the 1024 paths of a leaf of the tree, a thread a lane.

States wait in shared memory while a thread goes from path to path; noise never leaves registers. Every four times the
block folds its lanes (cuda_leaf.py): the sums are those of cpu_simulate_mean.py, to the last bit.
"""

import numpy as np
from numba import types

from .cpu import LANES, TILE
from .cpu_leaf import make_add, make_seen
from .cuda import (
    BLOCK,
    F64,
    I64,
    SIMULATED,
    U32,
    U64,
    D,
    I,
    U,
    cuda,
    device,
    make_cast,
    make_load,
    make_noise,
    make_store,
)
from .cuda_leaf import hold_pairs, make_finish, make_follow, make_put, make_times

SHARED_BYTES = 48 * 1024  # what every GPU gives to a block
MOST_BYTES = 24 * 1024  # of lanes: several blocks shall find room
ROOMS = 3, 4, 5, 6, 8  # blocks that shall find room in a multiprocessor
EXCHANGE_BYTES = 8 * LANES * BLOCK  # of what neighbours tell each other


@device
def sync_pair():
    """Wait for the threads of a warp, in the simulator, which has none, for those of the block."""
    if SIMULATED:
        cuda.syncthreads()
    else:
        cuda.syncwarp()


def times_together(n_terms: int, n_tangents: int, dtype: str) -> int:
    """How many of four times are folded at once, for shared memory to do: 0 if it does not for one."""
    states = TILE * (1 + n_tangents) * np.dtype(dtype).itemsize
    fits = min(MOST_BYTES, SHARED_BYTES - EXCHANGE_BYTES - states) // (8 * LANES * n_terms)
    return next((together for together in (4, 2, 1) if together <= fits), 0)


def make_elements(path, tangents, functional, n_tangents, dtype):
    """step(x, dx, z, c, dc), and f(x, theta), of one path."""
    step, observe, value = *path, functional[1]
    real = getattr(np, dtype)
    cast = make_cast(n_tangents, real)

    @device
    def one_step(x, dx, z, c, dc):
        z = real(z)
        return real(step(x, z, c)), cast(tangents(x, z, c, dx, dc))

    @device
    def f(x, theta):
        return value(F64(observe(x)), theta)

    return one_step, f


def make_simulate_mean(path, tangents, functional, slopes, sizes, dtype, antithetic, spread):
    """sums[tile, time, term] over the paths of a tile: the leaves of the tree that `cuda_tree.make_fold` adds.

    Arguments as of `cpu_simulate_mean.make_simulate_mean`. The term of `spread` is the sum of (f - shift)**2, f of
    paths or, of antithetic ones, means of pairs.
    """
    n_coefficients, n_tangents, n_parameters, n_slopes = sizes
    normals = make_noise(dtype, antithetic)
    real = getattr(np, dtype)
    n_added = 1 + n_slopes
    n_terms = n_added + spread
    together = times_together(n_terms, n_tangents, dtype)
    pairs = spread and antithetic
    dx_size, lanes_size = max(1, TILE * n_tangents), LANES * together * n_terms
    exchange_size = EXCHANGE_BYTES // 8 if pairs else 1
    nothing, unseen = (((0.0,) * n_added, 0.0, (0.0, 0.0)),) * BLOCK, (0.0,) * BLOCK
    observe = make_seen(path[1], dtype)
    one_step, f = make_elements((path[0], observe), tangents, functional, n_tangents, dtype)
    follow = make_follow(one_step, make_add(functional[0], slopes, observe, n_slopes), f, spread, pairs)
    finish = make_finish(together, n_terms, make_put(n_added, spread, pairs))
    load_c, load_dc = make_times(n_coefficients), make_times(n_tangents * n_coefficients)
    load_dx, store_dx = make_load(n_tangents), make_store(n_tangents)
    load_theta, tell = make_load(n_parameters), make_store(BLOCK)

    def simulate_mean(first_tile, n_times, n_paths, first_path, key0, key1, x0_at, dx0_at, coefficients,
                      dcoefficients, parameters, shift, sums):  # fmt: skip
        x_held = cuda.shared.array(TILE, real)
        dx_held = cuda.shared.array(dx_size, real)
        lanes = cuda.shared.array(lanes_size, F64)
        exchange = cuda.shared.array(exchange_size, F64)
        lane = U32(cuda.threadIdx.x)  # as all that counts lanes: it takes half the registers, and is never negative
        tile = I64(cuda.blockIdx.x)
        begin = (first_tile + tile) * TILE
        n = U32(min(TILE, n_paths - begin))
        reach = U32((n + LANES - 1) // LANES * LANES) if pairs else n  # the same for threads that wait for each other
        first = U64(first_path + U64(begin))
        theta, x0 = load_theta(parameters, 0, 1), real(parameters[x0_at])
        last = n_times - 1
        i = lane
        while i < n:
            x_held[i] = x0
            for k in range(n_tangents):
                dx_held[k * TILE + i] = real(k == dx0_at)
            i = U32(i + LANES)
        j = 0
        while j < n_times:
            c, dc = load_c(coefficients, j, last), load_dc(dcoefficients, j, last)
            held, seen = nothing, unseen
            i, k = lane, 0
            while i < reach:
                if not pairs or i < n:
                    z = normals(U64(first + U64(i)), U64(j >> 2), key0, key1)
                    x, dx = x_held[i], load_dx(dx_held, i, TILE)
                    x, dx, held, seen = follow(x, dx, z, c, dc, held, theta, shift, j, last)
                    x_held[i] = x
                    store_dx(dx_held, i, TILE, dx)
                if pairs:
                    tell(exchange, lane, LANES, seen)
                    sync_pair()
                    if i < n:
                        held = hold_pairs(held, seen, exchange, lane ^ 1, k, shift, j, last)
                    sync_pair()
                i = U32(i + LANES)
                k += 1
            finish(sums, (tile * n_times + j) * n_terms, lanes, lane, held, n_times - j)
            j += BLOCK

    R = types.CPointer(getattr(types, dtype))
    return simulate_mean, types.void(I, I, I, U, U, U, I, I, R, R, D, D, D), *ROOMS
