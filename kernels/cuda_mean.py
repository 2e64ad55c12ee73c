"""The loop over rows for GPUs: means of a functional with its slopes in parameters, and its slopes in x."""

import numpy as np
from numba import types

from .cpu import LANES, ROWS, TILE
from .cpu_leaf import make_add
from .cuda import F64, I64, THREADS, D, I, cuda, device, make_load, make_read, make_store
from .cuda_tree import WARP, fold_lanes
from .identity import identity

WARPS = 8  # of a block that adds rows
LEAVES = 32  # of such a block, for one term: all their lanes stand in shared memory
ROOMS = 2, 3  # blocks that shall find room in a multiprocessor: some read while others fold
MOST_SLOPES = 24  # that it finds at once: with the value itself, a leaf's lanes take half of the 48 KB
SLOPES = 4  # in x, that a thread finds together
K = types.CPointer(types.int64)


def make_add_rows(read, add):
    """Four lanes' totals over their elements of a leaf.

    LLVM writes the loop out, so that all reads are under way at once, but two rows at a time where there is much to
    add. Written out for numba, a functional took a hundred seconds to compile.
    """

    @device
    def add_rows(x, at, theta, t0, t1, t2, t3):
        for row in range(ROWS):
            x0, x1, x2, x3 = read(x, at + row * LANES)
            t0, t1 = add(t0, x0, (), theta), add(t1, x1, (), theta)
            t2, t3 = add(t2, x2, (), theta), add(t3, x3, (), theta)
        return t0, t1, t2, t3

    return add_rows


def leaves_together(n_terms: int) -> int:
    """How many leaves of this many terms a block of threads adds: a power of two, and of shared memory."""
    return 1 << max(0, (LEAVES // n_terms).bit_length() - 1)


def threads_together(n_terms: int) -> int:
    """Threads of such a block."""
    return WARP * min(WARPS, leaves_together(n_terms))


def make_mean(accumulate, slopes, n_parameters, n_slopes, dtype, mean_dtype, aligned):
    """Means of rows, accumulated in float64 over the tree of `cpu.make_mean`: a functional, then its slopes.

    Row r of x starts at element (index[r / inner] or r / inner) * outer_stride + (r mod inner) * inner_stride. Block
    (r, b) of threads adds the leaves of block b of row r, a warp a leaf at a time, four lanes a thread. Where a row is
    one block its sums over divisor go to means[term, row], else `make_fold` goes on with sums[row, block, term].
    A position outside x, which nobody could raise for here, gives NaN.
    """
    n_terms = 1 + n_slopes
    n_leaves = leaves_together(n_terms)
    n_threads = threads_together(n_terms)
    size = n_leaves * n_terms * LANES
    mean_real = getattr(np, mean_dtype)
    add, zeros = make_add(accumulate, slopes, identity, n_slopes), (0.0,) * n_terms
    add_rows = make_add_rows(make_read(dtype, aligned), add)
    load_theta, store = make_load(n_parameters), make_store(n_terms)

    @device
    def add_leaf(lanes, leaf, x, start, n, part, theta):
        """Lanes 4 part to 4 part + 3 of a leaf of n elements."""
        t0, t1, t2, t3 = zeros, zeros, zeros, zeros
        at = 4 * part
        if n == TILE:
            t0, t1, t2, t3 = add_rows(x, start + at, theta, zeros, zeros, zeros, zeros)
        else:
            while at < n:
                t0 = add(t0, x[start + at], (), theta)
                if at + 1 < n:
                    t1 = add(t1, x[start + at + 1], (), theta)
                if at + 2 < n:
                    t2 = add(t2, x[start + at + 2], (), theta)
                if at + 3 < n:
                    t3 = add(t3, x[start + at + 3], (), theta)
                at += LANES
        place = leaf * n_terms * LANES + 4 * part
        store(lanes, place, LANES, t0)
        store(lanes, place + 1, LANES, t1)
        store(lanes, place + 2, LANES, t2)
        store(lanes, place + 3, LANES, t3)

    @device
    def fold_leaves(lanes, count, thread):
        """Leaves fold by neighbours; whatever is missing counts as zero."""
        step = 1
        while step < n_leaves:
            k = thread
            while k < (n_leaves // (2 * step)) * n_terms:
                leaf, term = (k // n_terms) * 2 * step, k % n_terms
                if leaf + step < count:
                    lanes[(leaf * n_terms + term) * LANES] += lanes[((leaf + step) * n_terms + term) * LANES]
                k += n_threads
            cuda.syncthreads()
            step *= 2

    @device
    def find_row(row, index, n_index, outer_stride, outer, inner, inner_stride):
        """Where it starts, and whether its position is inside x: if not, some row is read for nothing."""
        position, start = row, I64(0)
        if inner > 1:
            position = row // inner
            start = (row - position * inner) * inner_stride
        if n_index > 0:
            position = index[position]
            if position < 0:
                position += outer
        inside = position >= 0 and position < outer
        return start + position * outer_stride if inside else start, inside

    @device
    def add_block(lanes, x, start, n, first, theta, thread):
        """The sums of a block of leaves, from element `first` of a row on, to the first lane of each term."""
        count = min(n_leaves, (n - first + TILE - 1) // TILE)
        leaf = thread // WARP
        while leaf < count:
            begin = first + leaf * TILE
            add_leaf(lanes, leaf, x, start + begin, min(TILE, n - begin), thread % WARP, theta)
            leaf += n_threads // WARP
        cuda.syncthreads()
        fold_lanes(lanes, count * n_terms, thread, n_threads)
        fold_leaves(lanes, count, thread)

    def mean(x, index, n_index, outer_stride, outer, inner, inner_stride, n_rows, n, blocks, parameters, divisor, sums,
             means):  # fmt: skip
        lanes = cuda.shared.array(size, F64)
        thread = cuda.threadIdx.x
        theta = load_theta(parameters, 0, 1)
        row = I64(cuda.blockIdx.x)
        while row < n_rows:
            start, inside = find_row(row, index, n_index, outer_stride, outer, inner, inner_stride)
            block = I64(cuda.blockIdx.y)
            while block < blocks:
                add_block(lanes, x, start, n, block * (n_leaves * TILE), theta, thread)
                term = thread
                while term < n_terms:
                    total = lanes[term * LANES] if inside else F64(np.nan)
                    if blocks == 1:
                        means[term * n_rows + row] = mean_real(total / divisor)
                    else:
                        sums[(row * blocks + block) * n_terms + term] = total
                    term += n_threads
                cuda.syncthreads()
                block += cuda.gridDim.y
            row += cuda.gridDim.x

    R, M = types.CPointer(getattr(types, dtype)), types.CPointer(getattr(types, mean_dtype))
    return mean, types.void(R, K, I, I, I, I, I, I, I, I, D, types.float64, D, M), *ROOMS


def make_divide(mean_dtype):
    """means[term, row] = sums[row, term] / divisor."""
    mean_real = getattr(np, mean_dtype)

    def divide(sums, n_rows, n_terms, divisor, means):
        i = I64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
        if i < n_rows * n_terms:
            row = i // n_terms
            means[(i - row * n_terms) * n_rows + row] = mean_real(sums[i] / divisor)

    return divide, types.void(D, I, I, types.float64, types.CPointer(getattr(types, mean_dtype)))


def make_weigh(dtype):
    """row_weights[r] = sum, in order, of weights[i, c] / divisor with r = (index[i], c); picked[r]: is there any?

    Below 0, n_index says that there is no index: each row has its own weight.
    """

    def weigh(weights, index, n_index, outer, inner, divisor, row_weights, picked):
        row = I64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
        if row < outer * inner:
            position = row // inner
            place = row - position * inner
            total, some = F64(0), I64(0)
            if n_index < 0:
                total, some = F64(weights[row]) / divisor, I64(1)
            i = 0
            while i < n_index:
                at = index[i]
                if at == position or at + outer == position:
                    total += F64(weights[i * inner + place]) / divisor
                    some = I64(1)
                i += 1
            row_weights[row] = total
            picked[row] = some

    R = types.CPointer(getattr(types, dtype))
    return weigh, types.void(R, K, I, I, I, types.float64, D, K)


def make_slope(slope_of, n_parameters, dtype):
    """out[row, i] = weights[row] * slope_of(x[row, i], parameters); rows of x as in `make_mean`, out contiguous.

    Rows that are not picked are 0. A thread has SLOPES elements of a row, THREADS apart: it reads them together.
    """
    real = getattr(np, dtype)
    load_theta, load, store = make_load(n_parameters), make_load(SLOPES), make_store(SLOPES)

    @device
    def weighed(x, weight, theta):
        return real(weight * slope_of(F64(x), theta))

    @device
    def slopes(x, start, out, place, i, n, weight, theta):
        if i + (SLOPES - 1) * THREADS < n:
            x0, x1, x2, x3 = load(x, start + i, THREADS)
            y0, y1 = weighed(x0, weight, theta), weighed(x1, weight, theta)
            y2, y3 = weighed(x2, weight, theta), weighed(x3, weight, theta)
            store(out, place + i, THREADS, (y0, y1, y2, y3))
        else:
            for k in range(SLOPES - 1):  # the last is beyond n
                if i + k * THREADS < n:
                    out[place + i + k * THREADS] = weighed(x[start + i + k * THREADS], weight, theta)

    @device
    def zeros(out, place, i, n):
        for k in range(SLOPES):
            if i + k * THREADS < n:
                out[place + i + k * THREADS] = real(0)

    def slope(x, outer_stride, inner, inner_stride, n_rows, n, parameters, weights, picked, out):
        i = I64(cuda.blockIdx.x) * (SLOPES * THREADS) + cuda.threadIdx.x
        theta = load_theta(parameters, 0, 1)
        row = I64(cuda.blockIdx.y)
        while row < n_rows:
            position = row // inner
            start = position * outer_stride + (row - position * inner) * inner_stride
            if picked[row] != 0:
                slopes(x, start, out, row * n, i, n, weights[row], theta)
            else:
                zeros(out, row * n, i, n)
            row += cuda.gridDim.y

    R = types.CPointer(getattr(types, dtype))
    return slope, types.void(R, I, I, I, I, I, D, D, K, R)
