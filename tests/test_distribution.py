"""The published distribution: 2**26 normals of each type against N(0, 1), and faults that the same battery must see.

The battery takes normals as slices of shape (m, n), times by paths, and names the tests they fail. Each has a false
alarm in a million; a battery has 58, so a sound stream fails by accident at one seed in 17,000.
"""

import math

import numpy as np
import pytest
from numba import njit
from scipy import stats

import fastlam
from fastlam import reference

FALSE_ALARM = 1e-6
BINS, COARSE = 1024, 16
TAILS = (2.0, 3.0, 4.0, 5.0)
M = 6  # times: two Philox blocks of float32 and three of float64
LAGS = tuple((j, i) for j in range(M) for i in (-1, 0, 1) if (j, i) > (0, 0))  # in time, in path
SEED = 20_240_607


@njit(error_model="numpy")
def count(z, bins, tails, moments):
    """Add up one slice: counts in bins of equal probability, beyond the tails, and powers; return each one's bin."""
    cells = np.empty(z.shape, np.int16)
    for j in range(z.shape[0]):
        for i in range(z.shape[1]):
            x = float(z[j, i])
            cells[j, i] = min(int(BINS / 2 * math.erfc(-x * math.sqrt(0.5))), BINS - 1)
            bins[cells[j, i]] += 1
            for t in range(len(TAILS)):
                tails[t] += abs(x) > TAILS[t]
            moments[0] += x
            moments[1] += x * x
    return cells


@njit(error_model="numpy")
def count_pairs(z, cells, lag_j, lag_i, table, moments):
    """Add up the pairs (z[j, i], z[j + lag_j, i + lag_i]): a table of their coarse bins, products, of squares too."""
    width = BINS // COARSE
    for j in range(z.shape[0] - lag_j):
        for i in range(max(0, -lag_i), z.shape[1] - max(0, lag_i)):
            x, y = float(z[j, i]), float(z[j + lag_j, i + lag_i])
            table[cells[j, i] // width, cells[j + lag_j, i + lag_i] // width] += 1
            moments[0] += x * y
            moments[1] += (x * x - 1) * (y * y - 1)


def two_sided(z_score):
    return 2 * stats.norm.sf(abs(z_score))


def uneven(squares, freedom):
    """A chi-square that is too large, or too small to be by chance."""
    return 2 * min(stats.chi2.sf(squares, freedom), stats.chi2.cdf(squares, freedom))


def battery(slices):
    """Names of the tests that the normals in `slices` fail, at FALSE_ALARM each."""
    bins, tails, moments = np.zeros(BINS), np.zeros(len(TAILS)), np.zeros(2)
    tables, products = np.zeros((len(LAGS), COARSE, COARSE)), np.zeros((len(LAGS), 2))
    for z in slices:
        if not np.isfinite(z).all():
            return ["finite"]
        cells = count(z, bins, tails, moments)
        for (lag_j, lag_i), table, product in zip(LAGS, tables, products, strict=True):
            count_pairs(z, cells, lag_j, lag_i, table, product)
    chances = {**single_chances(bins, tails, moments), **pair_chances(tables, products)}
    return [name for name, chance in chances.items() if not chance >= FALSE_ALARM]


def single_chances(bins, tails, moments):
    n = bins.sum()
    chances = {
        "mean": two_sided(moments[0] / math.sqrt(n)),
        "variance": two_sided((moments[1] / n - 1) / math.sqrt(2 / n)),
        "bins": uneven(((bins - n / BINS) ** 2).sum() / (n / BINS), BINS - 1),
    }
    for tail, found in zip(TAILS, tails, strict=True):
        chances[f"tail {tail}"] = stats.binomtest(int(found), int(n), 2 * stats.norm.sf(tail)).pvalue
    return chances


def pair_chances(tables, products):
    """Overlapping pairs share their margins, so the tables are centred on both: what is left is chi-square."""
    chances = {}
    for lag, table, (product, squares) in zip(LAGS, tables, products, strict=True):
        n = table.sum()
        left = table - table.mean(axis=0) - table.mean(axis=1)[:, np.newaxis] + table.mean()
        chances[f"pairs {lag}"] = uneven((left**2).sum() / (n / COARSE**2), (COARSE - 1) ** 2)
        chances[f"correlation {lag}"] = two_sided(product / math.sqrt(n))
        chances[f"squares {lag}"] = two_sided(squares / 2 / math.sqrt(n))
    return chances


def simulated_normals(dtype, sigma=1.0, n=2**26 // M):
    """Normals out of Brownian paths: each step is 2**20 times the last, so that x[j] is z[j] but for its last bits.

    The step before is left in x[j] as a part in 2**20: a correlation of 1e-6, where 2**26 pairs show 1e-4.
    """
    times = np.cumsum(2.0 ** (40 * np.arange(M)))
    scales = np.sqrt(np.diff(times, prepend=0.0))[:, np.newaxis]
    process, width = fastlam.Brownian(mu=0.0, sigma=sigma), 2**20
    for first in range(0, n, width):
        x = fastlam.simulate(process, times, min(width, n - first), seed=SEED, dtype=dtype, first_path=first)
        yield (x / scales).astype(x.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_are_normal(dtype):
    assert battery(simulated_normals(dtype)) == []


def test_battery_sees_a_sigma_off_by_1_in_2000():
    """2**27 normals, twice the battery's: 8 standard deviations of the variance, where the threshold is at 4.9."""
    assert "variance" in battery(simulated_normals("float32", sigma=1.0005, n=2**27 // M))


def words(path, block):
    return reference.philox((path, 0, block, 0), (SEED, 0))


def rows_of(blocks, pair=reference.normal_pair, uniforms=reference.uniforms_float32):
    """The float32 map of README, "The stream", on blocks of words, with a part exchanged."""
    rows = []
    for r0, r1, r2, r3 in blocks:
        rows += [*pair(*uniforms(r0, r1)), *pair(*uniforms(r2, r3))]
    return np.stack(rows[:M])


@pytest.fixture(scope="module")
def paths():
    return np.arange(2**20, dtype=np.uint64)


@pytest.fixture(scope="module")
def blocks(paths):
    return [words(paths, 0), words(paths, 1)]


def short_turn(u, v):
    return reference.normal_pair(u, v * (6.28 / (2 * np.pi)))


def skewed_pair(u, v):
    """The second normal turned by half a degree, a correlation of 0.009."""
    return reference.normal_pair(u, v)[0], reference.normal_pair(u, v - 0.5 / 360)[1]


def uniforms_with_zero(radius_word, angle_word):
    """A u that may be 0: once in 2**32 draws, so the word is planted."""
    radius_word = np.where(np.arange(radius_word.size) == 12_345, 0, radius_word).astype(np.uint64)
    return radius_word / 2.0**32, reference.uniforms_float32(radius_word, angle_word)[1]


def test_sound_map_passes_at_the_size_of_the_faults(blocks):
    assert battery([rows_of(blocks)]) == []


@pytest.mark.parametrize(
    ("fault", "seen_by"),
    [
        ({"pair": short_turn}, "bins"),
        ({"pair": skewed_pair}, "correlation (1, 0)"),
        ({"uniforms": uniforms_with_zero}, "finite"),
    ],
    ids=["2 pi = 6.28", "pair not orthogonal", "u = 0"],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # u = 0
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # infinity times cos(quarter turn)
def test_battery_sees_faults_of_the_map(blocks, fault, seen_by):
    assert seen_by in battery([rows_of(blocks, **fault)])


def test_battery_sees_shared_words(blocks):
    """Both pairs of a block on one radius: uncorrelated, but their squares are not."""
    shared = [(r0, r1, r0, r3) for r0, r1, _, r3 in blocks]
    assert "squares (2, 0)" in battery([rows_of(shared)])


@pytest.mark.parametrize(("shift", "lag"), [(1, (4, -1)), (-1, (4, 1))])
def test_battery_sees_overlapping_streams(paths, shift, lag):
    """The block added to the path's number: the next path's block is this path's next."""
    overlapping = [words(paths + np.uint64(1), 0), words(paths + np.uint64(1 + shift), 0)]
    assert f"pairs {lag}" in battery([rows_of(overlapping)])


def test_battery_sees_a_block_used_twice(blocks):
    assert "correlation (4, 0)" in battery([rows_of([blocks[0], blocks[0]])])
