"""The loop over rows for a functional and its slopes in parameters: several sums over a row in one reading of it.

Claims, chunks, budgets, offsets and blocks as in `cpu.make_mean`, and its tree of additions.
"""

import numpy as np
from numba import carray, njit, types

from .cpu import BLOCK_TILES, F64, LANES, TILE, I
from .cpu_leaf import make_add, make_leaf
from .identity import identity
from .memory import claim, load, pointer, stack


@njit(inline="always")
def fold_rows(values, n):
    """Add neighbouring rows until one is left in values[0], whatever is missing counting as zero."""
    while n > 1:
        for pair in range(n // 2):
            for term in range(values.shape[1]):
                values[pair, term] = values[2 * pair, term] + values[2 * pair + 1, term]
        if n % 2:
            for term in range(values.shape[1]):
                values[n // 2, term] = values[n - 1, term]
        n = (n + 1) // 2


def make_mean_terms(accumulate, slopes, n_parameters, n_slopes, dtype):
    """sums[row, block, term] of rows starting at offsets[row]: first the functional's value, then its slopes."""
    real = getattr(np, dtype)
    itemsize = np.dtype(dtype).itemsize
    n_terms = 1 + n_slopes
    leaf = make_leaf(make_add(accumulate, slopes, identity, n_slopes), n_terms, 0)
    lanes_size, leaves_size = LANES * n_terms, BLOCK_TILES * n_terms

    def mean_terms(claims, n_chunks, budget, x, offsets, n_rows, n, blocks, grain, parameters, sums):
        lanes, nothing = stack(F64, lanes_size), stack(real, 1)
        leaves = carray(stack(F64, leaves_size), (BLOCK_TILES, n_terms))
        starts = carray(pointer(offsets, np.int64), (n_rows,))
        theta = load(pointer(parameters, F64), 0, 1, n_parameters)
        answer = carray(pointer(sums, F64), (n_rows * blocks, n_terms))
        for done in range(budget):
            chunk = claim(claims) if claims else done
            if chunk >= n_chunks:
                return False
            for item in range(chunk * grain, min((chunk + 1) * grain, n_rows * blocks)):
                row = item // blocks
                first = (item - row * blocks) * (BLOCK_TILES * TILE)
                n_leaves = min(BLOCK_TILES, (n - first + TILE - 1) // TILE)
                for k in range(n_leaves):
                    begin = first + k * TILE
                    some = pointer(x + (starts[row] + begin) * itemsize, real)
                    leaf(leaves[k], 0, lanes, min(TILE, n - begin), some, 0, nothing, 0, theta)
                fold_rows(leaves, n_leaves)
                for term in range(n_terms):
                    answer[item, term] = leaves[0, term]
        return True

    return mean_terms, types.boolean(I, I, I, I, I, I, I, I, I, I, I)
