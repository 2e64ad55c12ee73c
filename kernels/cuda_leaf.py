"""The leaf of the tree on GPUs: what a thread adds to its lane at the times of a group, and how a block folds lanes.

Of each time a thread holds (totals, squares, halves): the sums of the terms; with `spread` that of (f - shift)**2, f of
paths, or the two of pairs, of which it has two lanes. All of it stays in registers: times are written out.
"""

from .cpu import LANES
from .cuda import BLOCK, U32, cuda, device, make_load, make_store
from .cuda_tree import fold_lanes
from .square import add_square


def make_times(size):
    """times(array, j, last): of times j to j + 3 the `size` values of each, of time `last` for what follows it."""
    load = make_load(size)

    @device
    def times(array, j, last):
        return (
            load(array, j * size, 1),
            load(array, min(j + 1, last) * size, 1),
            load(array, min(j + 2, last) * size, 1),
            load(array, min(j + 3, last) * size, 1),
        )

    return times


def make_follow(step, add, f, spread, pairs):
    """follow(x, dx, z, c, dc, held, theta, shift, j, last): a path after four times, what they hold, what they see.

    They see f, for `pairs` alone.
    """

    @device
    def time(x, dx, z, c, dc, held, theta, shift, j):
        totals, squares, halves = held
        x, dx = step(x, dx, z, c, dc)
        if spread and not pairs:
            squares = add_square(squares, f(x, theta) - shift[j], ())
        return x, dx, (add(totals, x, dx, theta), squares, halves), f(x, theta) if pairs else 0.0

    @device
    def follow(x, dx, z, c, dc, held, theta, shift, j, last):
        x, dx, held0, f0 = time(x, dx, z[0], c[0], dc[0], held[0], theta, shift, j)
        x, dx, held1, f1 = time(x, dx, z[1], c[1], dc[1], held[1], theta, shift, min(j + 1, last))
        x, dx, held2, f2 = time(x, dx, z[2], c[2], dc[2], held[2], theta, shift, min(j + 2, last))
        x, dx, held3, f3 = time(x, dx, z[3], c[3], dc[3], held[3], theta, shift, min(j + 3, last))
        return x, dx, (held0, held1, held2, held3), (f0, f1, f2, f3)

    return follow


@device
def _hold_pair(held, f, other, k, shift):
    totals, squares, (first, second) = held
    unit = 0.5 * (f + other) - shift
    halves = (first, add_square(second, unit, ())) if k & 1 else (add_square(first, unit, ()), second)
    return totals, squares, halves


@device
def hold_pairs(held, seen, exchange, at, k, shift, j, last):
    """What four times hold, with a pair more: of neighbours, whose f are at exchange[at], exchange[at + LANES], ...

    The even one of the two holds the pair's mean, unit k LANES / 2 + lane / 2, in its lane of the tree.
    """
    return (
        _hold_pair(held[0], seen[0], exchange[at], k, shift[j]),
        _hold_pair(held[1], seen[1], exchange[at + LANES], k, shift[min(j + 1, last)]),
        _hold_pair(held[2], seen[2], exchange[at + 2 * LANES], k, shift[min(j + 2, last)]),
        _hold_pair(held[3], seen[3], exchange[at + 3 * LANES], k, shift[min(j + 3, last)]),
    )


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


def make_finish(together, n_terms, put):
    """finish(sums, place, lanes, lane, held, left): the sums of the times of a group, of which `left` are wanted.

    The lanes have room for those that go together: the last of these folds them all.
    """

    def make_time(q):
        slot = q % together
        first = q - slot  # of those that are folded with it
        folds = slot == together - 1

        @device
        def time(sums, place, lanes, lane, held, left):
            put(lanes, slot * n_terms * LANES, lane, held)
            if folds and left > first:
                fold(sums, place + first * n_terms, lanes, U32(min(left - first, together) * n_terms), lane)

        return time

    time0, time1, time2, time3 = [make_time(q) for q in range(BLOCK)]

    @device
    def finish(sums, place, lanes, lane, held, left):
        time0(sums, place, lanes, lane, held[0], left)
        time1(sums, place, lanes, lane, held[1], left)
        time2(sums, place, lanes, lane, held[2], left)
        time3(sums, place, lanes, lane, held[3], left)

    return finish
