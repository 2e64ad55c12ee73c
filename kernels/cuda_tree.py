"""The tree of additions of `cpu.make_mean` on GPUs: lanes of a leaf fold in a block of threads, leaves by levels."""

from numba import types

from .cpu import LANES
from .cuda import I64, SIMULATED, THREADS, U32, D, I, cuda, device
from .standard_error import standard_error

WARP = 32
ALL = 0xFFFFFFFF  # threads of a warp
FOLD = 16  # nodes that a thread of `fold` adds, a power of two

if SIMULATED:  # without shuffles

    @device
    def fold_lanes(lanes, n_values, thread, n_threads):
        """Add the second half of the 128 lanes of each value to the first until one is left, the value's first."""
        shift = 6
        while shift >= 0:
            half = 1 << shift
            k = thread
            while k < n_values * half:
                at = (k >> shift) * LANES + (k & (half - 1))
                lanes[at] += lanes[at + half]
                k += n_threads
            cuda.syncthreads()
            shift -= 1

else:

    @device
    def fold_lanes(lanes, n_values, thread, n_threads):
        """Add the second half of the 128 lanes of each value to the first until one is left, the value's first."""
        lane = U32(thread & (WARP - 1))
        value = U32(thread // WARP)
        while value < n_values:  # a warp each
            at = U32(value * LANES + lane)
            total = (lanes[at] + lanes[at + 64]) + (lanes[at + 32] + lanes[at + 96])
            total += cuda.shfl_down_sync(ALL, total, 16)
            total += cuda.shfl_down_sync(ALL, total, 8)
            total += cuda.shfl_down_sync(ALL, total, 4)
            total += cuda.shfl_down_sync(ALL, total, 2)
            total += cuda.shfl_down_sync(ALL, total, 1)
            if lane == 0:
                lanes[at] = total
            value = U32(value + n_threads // WARP)
        cuda.syncthreads()


def _make_node(reach):
    """node(sums, at, stride, count): the tree over `reach` of sums[at + k stride], those beyond `count` being 0."""
    if reach == 1:

        @device
        def node(sums, at, stride, count):
            return sums[at] if count > 0 else 0.0

    else:
        middle = reach // 2
        half = _make_node(middle)

        @device
        def node(sums, at, stride, count):
            return half(sums, at, stride, count) + half(sums, at + middle * stride, stride, count - middle)

    return node


def make_fold():
    """folded[row, group, term] = the tree over 16 of sums[row, block, term]: four levels of it."""
    node = _make_node(FOLD)

    def fold(sums, n_rows, blocks, n_terms, folded):
        groups = (blocks + FOLD - 1) // FOLD
        k = I64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
        if k < n_rows * groups * n_terms:
            line = k // n_terms
            row = line // groups
            first = (line - row * groups) * FOLD
            folded[k] = node(sums, (row * blocks + first) * n_terms + (k - line * n_terms), n_terms, blocks - first)

    return fold, types.void(D, I, I, I, D)


def make_table(n_terms, spread):
    """table[0] = the means of the first term over n_paths; table[row], table[row + 1], ... = those of the others.

    With `spread` the last term is none of them: table[last] = standard errors of the mean of n_units values, of which
    it holds the sums of squares about `shift`.
    """
    n_added = n_terms - spread

    def fill(sums, n_times, n_paths, n_units, shift, table, row, last):
        j = I64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
        if j < n_times:
            mean = sums[j * n_terms] / n_paths
            table[j] = mean
            for term in range(1, n_added):
                table[(row + term - 1) * n_times + j] = sums[j * n_terms + term] / n_paths
            if spread:
                table[last * n_times + j] = standard_error(sums[j * n_terms + n_added], mean - shift[j], n_units)

    return fill, types.void(D, I, types.float64, types.float64, D, D, I, I)
