"""The leaf of the tree on GPUs: what a thread adds to its lane at the times of a group, and how a block folds lanes.

Of each time a thread holds (totals, squares, halves): the sums of the terms; with `spread` that of (f - shift)**2, f of
paths, or the two of pairs, of which it has two lanes. What is made for `count` times is written out for each, so that
all of it stays in registers.
"""

from .cpu import LANES
from .cuda import BLOCK, U32, cuda, device, make_load, make_store
from .cuda_tree import fold_lanes
from .square import add_square


def make_times(count, size):
    """times(array, j, last): the `size` values of each of `count` times from j on, of `last` for what follows it."""
    if count == 0:

        @device
        def times(array, j, last):
            return ()

    else:
        load, rest = make_load(size), make_times(count - 1, size)

        @device
        def times(array, j, last):
            return (load(array, min(j, last) * size, 1), *rest(array, j + 1, last))

    return times


def make_hold(add, f, spread, pairs):
    """hold(held, x, dx, theta, shift, j): what is held of time j, with a path more."""

    @device
    def hold(held, x, dx, theta, shift, j):
        totals, squares, halves = held
        if spread and not pairs:
            squares = add_square(squares, f(x, theta) - shift[j], ())
        return add(totals, x, dx, theta), squares, halves

    return hold


def make_follow(count, step, hold, see):
    """follow(x, dx, z, c, dc, held, theta, shift, j, last): a path after `count` times, what they hold and see."""
    if count == 0:

        @device
        def follow(x, dx, z, c, dc, held, theta, shift, j, last):
            return x, dx, (), ()

    else:
        rest = make_follow(count - 1, step, hold, see)

        @device
        def follow(x, dx, z, c, dc, held, theta, shift, j, last):
            x, dx = step(x, dx, z[0], c[0], dc[0])
            first, seen = hold(held[0], x, dx, theta, shift, min(j, last)), see(x, theta)
            x, dx, others, others_seen = rest(x, dx, z[1:], c[1:], dc[1:], held[1:], theta, shift, j + 1, last)
            return x, dx, (first, *others), (seen, *others_seen)

    return follow


def make_hold_pairs(count):
    """hold_pairs(held, seen, exchange, at, k, shift, j, last): what `count` times hold, with a pair more.

    The neighbour's f are at exchange[at], exchange[at + LANES], ... The even one of the two holds the pair's mean, unit
    k LANES / 2 + lane / 2, in its lane of the tree.
    """
    if count == 0:

        @device
        def hold_pairs(held, seen, exchange, at, k, shift, j, last):
            return ()

    else:
        rest = make_hold_pairs(count - 1)

        @device
        def hold_pairs(held, seen, exchange, at, k, shift, j, last):
            totals, squares, (first, second) = held[0]
            unit = 0.5 * (seen[0] + exchange[at]) - shift[min(j, last)]
            halves = (first, add_square(second, unit, ())) if k & 1 else (add_square(first, unit, ()), second)
            others = rest(held[1:], seen[1:], exchange, at + LANES, k, shift, j + 1, last)
            return ((totals, squares, halves), *others)

    return hold_pairs


def make_put(n_added, spread, pairs):
    """put(lanes, place, lane, held): what is held of a time, to its lanes."""
    store = make_store(n_added)

    @device
    def put(lanes, place, lane, held):
        totals, squares, halves = held
        store(lanes, place + lane, LANES, totals)
        if spread:
            place += n_added * LANES
            if not pairs:
                lanes[place + lane] = squares
            elif lane & 1 == 0:
                lanes[place + lane // 2] = halves[0]
                lanes[place + LANES // 2 + lane // 2] = halves[1]

    return put


@device
def fold(sums, place, lanes, n_values, lane):
    """Fold so many values of the lanes, and write their sums side by side."""
    cuda.syncthreads()
    fold_lanes(lanes, n_values, lane, LANES)
    if lane < n_values:
        sums[place + lane] = lanes[U32(lane * LANES)]
    cuda.syncthreads()


def make_finish(q, together, n_terms, put):
    """finish(sums, place, lanes, lane, held, left): the sums of times q to 3 of a group, of which `left` are wanted.

    The lanes have room for the times that go together: the last of these folds them all.
    """
    if q == BLOCK:

        @device
        def finish(sums, place, lanes, lane, held, left):
            pass

    else:
        rest = make_finish(q + 1, together, n_terms, put)
        slot = q % together
        first = q - slot  # of those that are folded with it
        folds = slot == together - 1

        @device
        def finish(sums, place, lanes, lane, held, left):
            put(lanes, slot * n_terms * LANES, lane, held[0])
            if folds and left > first:
                fold(sums, place + first * n_terms, lanes, U32(min(left - first, together) * n_terms), lane)
            rest(sums, place, lanes, lane, held[1:], left)

    return finish
