"""The loops for the CPU. Each `make_*` closes a loop over its elements and gives (function, signature) to compile.

All kernels are serial and release the GIL. They share work by claiming chunks: each call takes chunks from the counter
at `claims` until `n_chunks` are gone (it returns False) or `budget` are done (True); with `claims` 0 it is alone and
takes them in order. No answer depends on who takes what. Arrays come as addresses; strides count elements.
"""

import numpy as np
from numba import carray, njit, types

from .memory import claim, load, pointer, stack
from .normal import make_sign, normals_float32, normals_float64, words_float64
from .philox import philox

F64 = np.float64
U32, U64 = np.uint32, np.uint64

TILE = 1024  # paths whose words and state stay in the first-level cache; elements of one leaf of the reduction tree
WORDS = 4 * TILE
LANES = 128  # independent sums in a leaf, each over every 128th element
HALF = LANES // 2
ROWS = TILE // LANES  # elements that a lane of a leaf adds
FOLD_TILES = 4  # leaves whose lanes are folded together: their latencies overlap
FOLD_LANES = FOLD_TILES * LANES
BLOCK_TILES = 16  # leaves of one claimed block of a row

I = types.int64  # noqa: E741


@njit(inline="always")
def _pair_float32(words, pair, i):
    return normals_float32(words[2 * pair, i], words[2 * pair + 1, i])


@njit(inline="always")
def _pair_float64(words, pair, i):
    radius_word, angle_word = words_float64(words[0, i], words[1, i], words[2, i], words[3, i])
    return normals_float64(radius_word, angle_word)


def make_noise(dtype, antithetic):
    """(fill_words, two_normals, pairs of normals in a block): a tile's words, and from them two normals of a path."""
    pairs_per_block, normal_pair = (2, _pair_float32) if dtype == "float32" else (1, _pair_float64)
    sign = make_sign(dtype)
    mate = U64(1 if antithetic else 0)  # antithetic: paths 2q and 2q + 1 share the words of path 2q

    @njit(inline="always")
    def fill_words(words, first, width, block, key0, key1):
        for i in range(width):
            path = U64(first + U64(i)) & ~mate
            r0, r1, r2, r3 = philox(path & U64(2**32 - 1), path >> U64(32), block, U64(0), key0, key1)
            words[0, i], words[1, i], words[2, i], words[3, i] = U32(r0), U32(r1), U32(r2), U32(r3)

    @njit(inline="always")
    def two_normals(words, pair, i, first):
        z0, z1 = normal_pair(words, pair, i)
        if antithetic:
            factor = sign(first + U64(i))
            z0, z1 = z0 * factor, z1 * factor
        return z0, z1

    return fill_words, two_normals, pairs_per_block


def make_simulate(step, observe, n_coefficients, dtype, antithetic):
    """Paths: out[j, i] = what `observe` sees of path first_path + i after j + 1 steps of `step`."""
    fill_words, two_normals, pairs_per_block = make_noise(dtype, antithetic)
    real = getattr(np, dtype)
    itemsize = np.dtype(dtype).itemsize

    @njit(inline="always")
    def two_steps(out0, out1, state, words, pair, first, width, c0, c1):
        for i in range(width):
            z0, z1 = two_normals(words, pair, i, first)
            x = real(step(state[i], z0, c0))  # an element of float32 may answer in float64
            out0[i] = observe(x)
            x = real(step(x, z1, c1))
            out1[i] = observe(x)
            state[i] = x

    def simulate(claims, n_chunks, budget, out, row_stride, n_times, n_paths, width, first_path, key0, key1,
                 x0, coefficients):  # fmt: skip
        words = carray(stack(U32, WORDS), (4, TILE))
        state = carray(stack(real, TILE), (TILE,))
        spare = carray(stack(real, TILE), (TILE,))  # takes the time after the last where their number is odd
        steps = pointer(coefficients, real)
        for done in range(budget):
            chunk = claim(claims) if claims else done
            if chunk >= n_chunks:
                return False
            start = chunk * width
            n = min(width, n_paths - start)
            first = first_path + U64(start)
            for i in range(n):
                state[i] = x0
            for j in range(0, n_times, 2):
                pair = (j // 2) % pairs_per_block
                if pair == 0:
                    fill_words(words, first, n, U64(j // (2 * pairs_per_block)), key0, key1)
                both = j + 1 < n_times
                row = out + (j * row_stride + start) * itemsize
                out0 = carray(pointer(row, real), (TILE,))
                out1 = carray(pointer(row + row_stride * itemsize, real), (TILE,)) if both else spare
                c0 = load(steps, j * n_coefficients, 1, n_coefficients)
                c1 = load(steps, (j + both) * n_coefficients, 1, n_coefficients)
                two_steps(out0, out1, state, words, pair, first, n, c0, c1)
        return True

    signature = types.boolean(I, I, I, I, I, I, I, I, types.uint64, types.uint64, types.uint64, types.float64, I)
    return simulate, signature


PAGE = 4096


def make_touch():
    """Write a byte to each page of memory that is new, so that several threads have the system clear it at once.

    Without it all threads wait for the same page at the same time, as each walks through all rows.
    """

    def touch(claims, n_chunks, budget, address, n_bytes):
        share = (n_bytes // n_chunks + PAGE) // PAGE * PAGE
        memory = carray(pointer(address, np.uint8), (n_bytes,))
        for done in range(budget):
            chunk = claim(claims) if claims else done
            if chunk >= n_chunks:
                return False
            for i in range(chunk * share, min((chunk + 1) * share, n_bytes), PAGE):
                memory[i] = 0
        return True

    return touch, types.boolean(I, I, I, I, I)


@njit(inline="always")
def _fold(values, n):
    """Add neighbours until one is left in values[0], whatever is missing counting as zero."""
    while n > 1:
        for pair in range(n // 2):
            values[pair] = values[2 * pair] + values[2 * pair + 1]
        if n % 2:
            values[n // 2] = values[n - 1]
        n = (n + 1) // 2


def make_mean(add, dtype, mean_dtype):
    """Means of rows starting at offsets[row], accumulated in float64 by total = add(total, x, ()).

    The tree: in a leaf of 1024 elements lane l adds elements l, l + 128, ... in order, then lanes fold by halves;
    leaves fold by neighbours. A block is 2**p aligned leaves, so that its sum is a node of the tree. Where a row is one
    block its sum over `divisor` goes to means[row], else the sums go to sums[row, block] and `make_fold` does the rest.
    """
    real, mean_real = getattr(np, dtype), getattr(np, mean_dtype)
    itemsize = np.dtype(dtype).itemsize

    @njit(inline="always")
    def row(address, k):
        return carray(pointer(address + k * LANES * itemsize, real), (LANES,))

    @njit(inline="always")
    def add_row(lanes, x, n):
        for lane in range(n):
            lanes[lane] = add(lanes[lane], F64(x[lane]), ())

    @njit(inline="always")
    def add_leaf(lanes, address):
        """A whole leaf, up to its first fold; its ends merge with their neighbours, as stores are the bottleneck."""
        x = row(address, 0)
        for lane in range(LANES):
            lanes[lane] = add(0.0, F64(x[lane]), ())
        for k in range(1, ROWS - 1):
            add_row(lanes, row(address, k), LANES)
        x = row(address, ROWS - 1)
        for lane in range(HALF):
            lanes[lane] = add(lanes[lane], F64(x[lane]), ()) + add(lanes[lane + HALF], F64(x[lane + HALF]), ())

    @njit(inline="always")
    def add_part(lanes, address, n):
        """The last n elements of a row, fewer than a leaf, up to the first fold."""
        for lane in range(LANES):
            lanes[lane] = 0.0
        for k in range(n // LANES):
            add_row(lanes, row(address, k), LANES)
        add_row(lanes, row(address, n // LANES), n % LANES)
        for lane in range(HALF):
            lanes[lane] += lanes[lane + HALF]

    @njit(inline="always")
    def fold_lanes(lanes, n_leaves, half):
        for leaf in range(n_leaves):
            for lane in range(half):
                lanes[leaf, lane] += lanes[leaf, lane + half]

    @njit(inline="always")
    def leaf_sums(leaves, n_leaves, address, n, lanes):
        for leaf in range(n_leaves):
            left = n - leaf * TILE
            if left >= TILE:
                add_leaf(lanes[leaf], address + leaf * TILE * itemsize)
            else:
                add_part(lanes[leaf], address + leaf * TILE * itemsize, left)
        fold_lanes(lanes, n_leaves, 32)
        fold_lanes(lanes, n_leaves, 16)
        fold_lanes(lanes, n_leaves, 8)
        fold_lanes(lanes, n_leaves, 4)
        fold_lanes(lanes, n_leaves, 2)
        for leaf in range(n_leaves):
            leaves[leaf] = lanes[leaf, 0] + lanes[leaf, 1]

    def mean(claims, n_chunks, budget, x, offsets, n_rows, n, blocks, grain, divisor, sums, means):
        lanes = carray(stack(F64, FOLD_LANES), (FOLD_TILES, LANES))
        leaves = carray(stack(F64, BLOCK_TILES), (BLOCK_TILES,))
        starts = carray(pointer(offsets, np.int64), (n_rows,))
        block_sums = carray(pointer(sums, F64), (n_rows * blocks,))
        answer = carray(pointer(means, mean_real), (n_rows,))
        for done in range(budget):
            chunk = claim(claims) if claims else done
            if chunk >= n_chunks:
                return False
            for item in range(chunk * grain, min((chunk + 1) * grain, n_rows * blocks)):
                line = item // blocks
                start = (item - line * blocks) * (BLOCK_TILES * TILE)
                n_leaves = min(BLOCK_TILES, (n - start + TILE - 1) // TILE)
                for leaf in range(0, n_leaves, FOLD_TILES):
                    first = start + leaf * TILE
                    address = x + (starts[line] + first) * itemsize
                    leaf_sums(leaves[leaf:], min(FOLD_TILES, n_leaves - leaf), address, n - first, lanes)
                _fold(leaves, n_leaves)
                if blocks == 1:
                    answer[line] = mean_real(leaves[0] / divisor)
                else:
                    block_sums[item] = leaves[0]
        return True

    return mean, types.boolean(I, I, I, I, I, I, I, I, I, I, I, I)


def make_fold(mean_dtype):
    """The last levels of the tree: means[row] of block sums[row, block], which it overwrites."""
    mean_real = getattr(np, mean_dtype)

    def fold(sums, n_rows, blocks, divisor, means):
        block_sums = carray(pointer(sums, F64), (n_rows, blocks))
        answer = carray(pointer(means, mean_real), (n_rows,))
        for row in range(n_rows):
            _fold(block_sums[row], blocks)
            answer[row] = mean_real(block_sums[row, 0] / divisor)

    return fold, types.void(I, I, I, I, I)


def make_slope(slope_of, n_parameters, dtype):
    """out[row, i] = weights[row] * slope_of(x[row, i], parameters), rows starting at offsets and out_offsets."""
    real = getattr(np, dtype)
    itemsize = np.dtype(dtype).itemsize

    @njit(inline="always")
    def row_slope(out, x, n, weight, theta):
        for i in range(n):
            out[i] = real(weight * slope_of(F64(x[i]), theta))

    def slope(claims, n_chunks, budget, x, offsets, n_rows, n, blocks, grain, parameters, weights, out, out_offsets):
        starts = carray(pointer(offsets, np.int64), (n_rows,))
        out_starts = carray(pointer(out_offsets, np.int64), (n_rows,))
        row_weights = carray(pointer(weights, F64), (n_rows,))
        theta = load(pointer(parameters, F64), 0, 1, n_parameters)
        for done in range(budget):
            chunk = claim(claims) if claims else done
            if chunk >= n_chunks:
                return False
            for item in range(chunk * grain, min((chunk + 1) * grain, n_rows * blocks)):
                row = item // blocks
                start = (item - row * blocks) * (BLOCK_TILES * TILE)
                count = min(BLOCK_TILES * TILE, n - start)
                elements = carray(pointer(x + (starts[row] + start) * itemsize, real), (count,))
                answer = carray(pointer(out + (out_starts[row] + start) * itemsize, real), (count,))
                row_slope(answer, elements, count, row_weights[row], theta)
        return True

    return slope, types.boolean(I, I, I, I, I, I, I, I, I, I, I, I, I)
