"""Kernels for GPUs against the bits of the CPU: in numba's simulator, run as a program with NUMBA_ENABLE_CUDASIM=1.

`python cuda_simulated.py CASE` exits with 0 where all bits are the same. Small sizes: a thread is a system's thread.
tests/test_cuda_ptx.py has the same checks run what the kernels are compiled to, with a `run` of its own.
"""

import sys

import numpy as np
from cuda_cases import FUNCTIONALS, PROCESSES, coefficient_slopes, coefficients, mean, simulate, simulate_mean
from numba import cuda, njit

import fastlam
from fastlam import one_pass, rows
from fastlam.elements import record
from fastlam.kernels import cuda_mean, cuda_tree
from fastlam.kernels.cuda import THREADS
from fastlam.kernels.cuda_coefficients import make_coefficients
from fastlam.stream import Stream
from fastlam.tree import fold_neighbours

TIMES = np.cumsum([0.1, 0.2, 0.15, 0.3, 0.1, 0.2])
SEED, FIRST = 2**63 + 7, 2**33 + 2
WORDS = np.uint64(SEED % 2**32), np.uint64(SEED >> 32)


def run(case, grid, *values):
    make, arguments, threads = case
    cuda.jit(make(*arguments)[0])[grid, threads](*values)


def blocks_of(size, threads=256):
    return -(-size // threads)


def fold(sums, n_rows, blocks, n_terms):
    """As it is launched: 16 nodes at a time."""
    while blocks > 1:
        groups = -(-blocks // cuda_tree.FOLD)
        folded = np.full(n_rows * groups * n_terms, np.nan)
        run((cuda_tree.make_fold, (), 256), blocks_of(folded.size), sums, n_rows, blocks, n_terms, folded)
        sums, blocks = folded, groups
    return sums


def same(got, want):
    assert got.shape == want.shape, (got.shape, want.shape)
    assert got.dtype == want.dtype
    assert got.tobytes() == want.tobytes(), np.abs(got - want).max()


def values_of(process):
    return np.array([float(value) for value in PROCESSES[process].parameters().values()])


def check_simulate(process, dtype, antithetic, n, times=TIMES):
    dynamics, values = record(PROCESSES[process].handle), values_of(process)
    steps = one_pass.step_coefficients("simulate", dynamics, times, values[:-1], dtype)
    stride = n + 3
    out = np.full((len(times), stride), np.nan, dtype)
    run(
        simulate(process, dtype, antithetic), blocks_of(n), out.ravel(), stride, len(times), n,
        np.uint64(FIRST), *WORDS, values[-1:].astype(dtype), steps.ravel(),
    )  # fmt: skip
    named = {"seed": SEED, "first_path": FIRST, "antithetic": antithetic, "dtype": dtype}
    same(np.ascontiguousarray(out[:, :n]), fastlam.simulate(PROCESSES[process], times, n, **named))
    assert np.isnan(out[:, n:]).all()  # not written


def check_coefficients(process, dtype):
    dynamics, values = record(PROCESSES[process].handle), values_of(process)
    want = one_pass.step_coefficients("simulate", dynamics, TIMES, values[:-1], dtype)
    got = np.full(want.size, np.nan, dtype)
    run(coefficients(process, dtype), 1, TIMES, len(TIMES), values, got)
    same(got.reshape(want.shape), want)
    want = one_pass._tangent_coefficients(dynamics, TIMES, values[:-1], [0, len(values) - 1]).astype(dtype)
    got = np.full(want.size, np.nan, dtype)
    run(coefficient_slopes(process, dtype), 1, TIMES, len(TIMES), values, got)
    same(got.reshape(want.shape), want)


def check_bad_input():
    """What cannot be raised for on a GPU gives NaN: times from the bad one on, parameters everywhere."""
    for times, bad in (([0.1, 0.1, 0.2], 1), ([-0.1, 0.2, 0.3], 0), ([0.1, np.nan, 0.3], 1), ([0.1, 0.2, np.inf], 2)):
        got = np.zeros(6)
        run(coefficients("brownian", "float64"), 1, np.array(times), 3, values_of("brownian"), got)
        assert np.isnan(got.reshape(3, 2)).all(axis=1).argmax() == bad
    for values in ([np.nan, 0.2, 0.0], [0.1, np.inf, 0.0], [0.1, -0.2, 0.0], [0.1, 0.2, -np.inf]):
        got = np.zeros(6)
        run(coefficients("brownian", "float64"), 1, TIMES[:3], 3, np.array(values), got)
        assert np.isnan(got).all()


@njit(inline="always")
def labelled(t, dt, parameters):
    """Coefficients that are parameters, whatever the times are."""
    phi, sigma = parameters
    return 1, phi, sigma


def check_bad_input_that_no_coefficient_sees():
    for times, values, good in (
        ([1, 3, 5], [0.9, 0.3, 0], [1, 1, 1]),
        ([1, 3, 2], [0.9, 0.3, 0], [1, 1, 0]),
        ([1, 3, 5], [0.9, -0.3, 0], [0, 0, 0]),
        ([1, 3, 5], [np.inf, 0.3, 0], [0, 0, 0]),
    ):
        got = np.zeros(12)
        case = make_coefficients, (labelled, 3, (None, 0.0, None), (2, -1, 0, 1), "float64"), THREADS
        run(case, 1, np.array(times, float), 3, np.array(values, float), got)
        wanted = [[values[1], 0, 1, values[0]] if is_good else [np.nan] * 4 for is_good in good]
        np.testing.assert_array_equal(got.reshape(3, 4), wanted)


def check_simulate_mean(process, functional, dtype, wanted, n, antithetic=False, stderr=False, times=TIMES):
    dynamics, payoff = record(PROCESSES[process].handle), record(FUNCTIONALS[functional].handle)
    own = [float(value) for value in FUNCTIONALS[functional].parameters().values()]
    theta, split, m = np.array([*own, *values_of(process)]), len(own), len(times)
    unit = 2 if antithetic else 1
    no_shift = np.zeros(1)

    def table(wanted, n_paths, shift):
        directions = [p - split for p in wanted if p >= split]
        steps = one_pass.step_coefficients("simulate", dynamics, times, theta[split:-1], dtype)
        slopes = one_pass._tangent_coefficients(dynamics, times, theta[split:-1], directions).astype(dtype)
        spread = shift is not no_shift
        n_terms, tiles = 1 + len(wanted) + spread, -(-n_paths // 1024)
        sums = np.full(tiles * m * n_terms, np.nan)
        run(
            simulate_mean(process, functional, dtype, wanted, antithetic, spread), tiles, 0, m, n_paths,
            np.uint64(FIRST), *WORDS, *one_pass.positions_of_x0(len(theta), wanted, len(directions)), steps.ravel(),
            slopes.ravel(), theta, shift, sums,
        )  # fmt: skip
        answer = np.full(n_terms * m, np.nan)
        sums = fold(sums, 1, tiles, m * n_terms)
        units = float(n_paths // unit)
        case = cuda_tree.make_table, (n_terms, spread), 256
        run(case, 1, sums, m, float(n_paths), units, shift, answer, 1, n_terms - 1)
        return answer.reshape(n_terms, m)

    got = table(wanted, n, table((), unit, no_shift)[0] if stderr else no_shift)
    stream = Stream(SEED, FIRST, n, antithetic, dtype)
    same(got, one_pass.mean_table("simulate_mean", dynamics, payoff, theta, wanted, times, stream, stderr))


def check_mean(functional, dtype, wanted, shape, aligned, leaves=None):
    """Of rows picked, of a matrix whose rows lie apart; a smaller block of leaves has more levels above it."""
    n_rows, n = shape
    payoff = record(FUNCTIONALS[functional].handle)
    theta = np.array([float(value) for value in FUNCTIONALS[functional].parameters().values()])
    stride = -(-n // 4) * 4 + 4
    x = np.random.default_rng(1).standard_normal((n_rows, stride)).astype(dtype)
    index = np.array([n_rows - 1, -n_rows, 0, n_rows], np.int64)  # the last is outside
    n_terms = 1 + len(wanted)
    n_leaves = cuda_mean.leaves_together(n_terms)
    blocks = -(-n // (n_leaves * 1024))
    sums, means = np.full(4 * blocks * n_terms, np.nan), np.full(4 * n_terms, np.nan, dtype)
    run(
        mean(functional, dtype, wanted, aligned), (4, min(blocks, 2)), x.ravel(), index, 4, stride, n_rows, 1, 0, 4, n,
        blocks, np.append(theta, 0.0), float(n), sums, means,
    )  # fmt: skip
    if blocks > 1:
        sums = fold(sums, 4, blocks, n_terms)
        run((cuda_mean.make_divide, (dtype,), 256), blocks_of(means.size), sums, 4, n_terms, float(n), means)
    want = rows.array_terms(x[:, :n], payoff, theta, wanted, index[:3]).T.astype(dtype)
    got = means.reshape(n_terms, 4).T
    same(np.ascontiguousarray(got[:3]), np.ascontiguousarray(want))
    assert np.isnan(got[3]).all()


def check_slopes():
    """Of rows that repeat: their weights are added in order, as the CPU does."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4, 3, 37)).astype(np.float32)
    index, weights = np.array([0, 2, -2, 2, -1]), rng.standard_normal((5, 3))
    by_row, out = np.full(12, np.nan), np.full(x.shape, np.nan, np.float32)
    x[1, 0, 0] = np.inf  # of a row that is not picked
    picked = np.full(12, -1)
    run((cuda_mean.make_weigh, ("float64",), 256), 1, weights.ravel(), index, 5, 4, 3, 37.0, by_row, picked)
    make = cuda_mean.make_slope, (rows.square_slope, 0, "float32"), 256
    run(make, (1, 2), x.ravel(), 3 * 37, 3, 37, 12, 37, np.zeros(1), by_row, picked, out.ravel())
    same(out, rows.array_slopes(x, weights, index))
    x, out = rng.standard_normal((3, 1100)).astype(np.float32), np.full((3, 1100), np.nan, np.float32)
    weights, picked = np.array([0.5, -1.0, 3.0]), np.array([1, 0, 1])  # rows of a whole block and of a part of one
    run(make, (2, 2), x.ravel(), 1100, 1, 0, 3, 1100, np.zeros(1), weights / 1100, picked, out.ravel())
    same(out, rows.array_slopes(x, weights[[0, 2]], np.array([0, 2])))


def check_fold():
    """Any number of nodes, of several rows and terms."""
    for blocks in (2, 15, 16, 17, 33, 300):
        sums = np.random.default_rng(blocks).standard_normal((3, blocks, 2))
        want = np.stack([fold_neighbours(row.copy()) for row in sums])
        same(fold(sums.ravel(), 3, blocks, 2).reshape(3, 2), want)


CASES = {
    "simulate": lambda: [
        check_simulate(process, dtype, antithetic, 37)
        for process in PROCESSES
        for dtype in ("float32", "float64")
        for antithetic in (False, True)
    ],
    "simulate sizes": lambda: [
        check_simulate("brownian", "float32", False, n, np.arange(1, m + 1) / 8)
        for n in (1, 256, 257)
        for m in (1, 2, 3, 4, 5, 8)
    ],
    "coefficients": lambda: [check_coefficients("ornstein_uhlenbeck", dtype) for dtype in ("float32", "float64")],
    "bad input": check_bad_input,
    "bad input unseen": check_bad_input_that_no_coefficient_sees,
    "two tiles": lambda: check_simulate_mean("brownian", "square", "float32", (), 1100),
    "gradients": lambda: check_simulate_mean("brownian", "square", "float32", (0, 1, 2), 140),
    "standard error": lambda: check_simulate_mean("geometric_brownian", "square", "float64", (1,), 140, False, True),
    "pairs": lambda: [
        check_simulate_mean("cox_ingersoll_ross", "call", "float64", (0, 1, 4), n, True, True) for n in (2, 256, 300)
    ],
    "many terms": lambda: check_simulate_mean(
        "ornstein_uhlenbeck", "polynomial", "float32", (0, 1, 2, 3, 4, 5, 7), 130, False, True
    ),
    "two times together": lambda: check_simulate_mean("brownian", "square", "float64", (0, 1, 2), 130, True, True),
    "expression": lambda: check_simulate_mean("milstein", "polynomial", "float64", (0, 4, 6, 7), 65),
    "mean": lambda: [
        check_mean("square", dtype, (), (2, n), aligned)
        for dtype in ("float32", "float64")
        for aligned in (False, True)
        for n in (1, 5, 1024, 2100)
    ],
    "mean of blocks": lambda: check_mean("polynomial", "float32", (0, 1, 2, 3), (2, 9000), True),
    "slopes": check_slopes,
    "fold": check_fold,
}

if __name__ == "__main__":
    CASES[sys.argv[1]]()
