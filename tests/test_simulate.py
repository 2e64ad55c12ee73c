"""`fastlam.simulate` against the reference, bit for bit against itself, and against a golden file."""

import itertools
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import binding

import fastlam
from fastlam import reference

PROCESS = fastlam.Brownian(mu=0.3, sigma=0.7, x0=1.5)
SEED = 2**63 + 5  # both words of the key
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
ANTITHETIC = pytest.mark.parametrize("antithetic", [False, True], ids=["plain", "antithetic"])
SIZES = (1, 2, 63, 64, 65, 1023, 1024, 1025, 2049)  # around vectors, chunks (64 and up) and tiles (1024)
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9)  # around Philox blocks: 4 times in float32, 2 in float64
GOLDEN = Path(__file__).with_name("golden_paths.txt")


def irregular_times(m):
    return np.cumsum(np.random.default_rng(3).uniform(0.01, 0.5, m))


def tolerance(process, times, dtype):
    """(m, 1) bound on paths' error. A normal errs by 1e-6 (1e-14) at most and is below 8.6, so a step below `step`;
    its two coefficients, their fma and the sum are rounded, each by half a unit in the last place (or underflow).
    """
    dt = np.diff(np.asarray(times, float), prepend=0.0)
    scale = process.sigma * np.sqrt(dt)
    half_unit = np.finfo(dtype).eps / 2
    step = 8.6 * scale + abs(process.mu) * dt
    size = abs(process.x0) + np.cumsum(step)
    error = (1e-6 if dtype == "float32" else 1e-14) * scale + half_unit * (2 * step + size)
    return (half_unit * abs(process.x0) + np.cumsum(error) + np.finfo(dtype).tiny)[:, np.newaxis]


def assert_like_reference(x, process, times, **names):
    dtype = str(x.dtype)
    exact = reference.simulate(process.mu, process.sigma, process.x0, times, x.shape[1], dtype=dtype, **names)
    assert x.shape == exact.shape
    assert (np.abs(x - exact) <= tolerance(process, times, dtype)).all()


@DTYPES
@ANTITHETIC
@pytest.mark.parametrize("n", SIZES)
def test_equals_reference(dtype, antithetic, n):
    names = {"seed": SEED, "first_path": 2**32 - 600 + n % 2, "antithetic": antithetic}  # odd and even, over the word
    for m in LENGTHS:
        x = fastlam.simulate(PROCESS, irregular_times(m), n, dtype=dtype, **names)
        assert x.dtype == dtype
        assert_like_reference(x, PROCESS, irregular_times(m), **names)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    process=st.builds(
        fastlam.Brownian, mu=st.floats(-3, 3), sigma=st.floats(0, 3), x0=st.floats(-5, 5)
    ),
    dt=st.lists(st.floats(1e-6, 10), min_size=1, max_size=12),
    from_zero=st.booleans(),
    n=st.integers(1, 200),
    first=st.integers(0, 2**64 - 200),
    seed=st.integers(0, 2**64 - 1),
    dtype=st.sampled_from(["float32", "float64"]),
    antithetic=st.booleans(),
)  # fmt: skip
def test_equals_reference_anywhere(process, dt, from_zero, n, first, seed, dtype, antithetic):
    times = np.cumsum([0.0, *dt] if from_zero else dt)
    names = {"seed": seed, "first_path": first, "antithetic": antithetic}
    x = fastlam.simulate(process, times, n, dtype=dtype, **names)
    assert_like_reference(x, process, times, **names)


@DTYPES
def test_time_zero_is_x0(dtype):
    x = fastlam.simulate(PROCESS, np.array([0.0, 1.0]), 100, seed=1, dtype=dtype)
    assert (x[0] == PROCESS.x0).all()
    assert len(np.unique(x[1])) == 100


@pytest.mark.parametrize("kind", ["int8", "uint16", "int32", "int64", "uint64"])
def test_integer_times_are_float32_paths(kind):
    times = np.array([0, 1, 3, 100])
    x = fastlam.simulate(PROCESS, times.astype(kind), 50, seed=1)
    np.testing.assert_array_equal(x, fastlam.simulate(PROCESS, times.astype("float64"), 50, seed=1, dtype="float32"))
    assert x.dtype == np.float32


@DTYPES
@pytest.mark.parametrize("spell", [str, np.dtype, lambda name: getattr(np, name), lambda name: getattr(torch, name)])
def test_dtype_by_any_name(dtype, spell):
    assert fastlam.simulate(PROCESS, np.arange(1, 3), 5, seed=1, dtype=spell(dtype)).dtype == dtype


@DTYPES
def test_answer_is_of_the_kind_of_times(dtype):
    times = irregular_times(5).astype(dtype)
    x = fastlam.simulate(PROCESS, times, 70, seed=1)
    tensor = fastlam.simulate(PROCESS, torch.from_numpy(times), 70, seed=1)
    assert isinstance(x, np.ndarray)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == getattr(torch, dtype)
    np.testing.assert_array_equal(tensor.numpy(), x)


def layouts_of(times):
    read_only = times.copy()
    read_only.flags.writeable = False
    return [times.astype(times.dtype.newbyteorder(">")), np.repeat(times, 3)[::3], times[::-1].copy()[::-1], read_only]


@DTYPES
def test_times_in_any_layout(dtype):
    times = irregular_times(5).astype(dtype)
    x = fastlam.simulate(PROCESS, times, 7, seed=1)
    for other in layouts_of(times):
        np.testing.assert_array_equal(fastlam.simulate(PROCESS, other, 7, seed=1), x)


@DTYPES
def test_times_of_a_tensor_to_be_negated(dtype):
    """A view whose numbers torch negates when it reads them, such as the imaginary part of a conjugate."""
    times = irregular_times(5).astype(dtype)
    negated = torch.complex(torch.zeros(5, dtype=getattr(torch, dtype)), torch.tensor(-times)).conj().imag
    x = fastlam.simulate(PROCESS, negated, 7, seed=1)
    np.testing.assert_array_equal(x, fastlam.simulate(PROCESS, times, 7, seed=1))


@DTYPES
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@pytest.mark.parametrize("cut", [np.s_[:, :], np.s_[:, 5:1105], np.s_[::3, :1100], np.s_[:1, 7:], np.s_[1:, 40:41]])
def test_out(dtype, kind, cut):
    """Rows apart and not on a vector's edge: filled and handed back, and nothing beside them is touched."""
    whole = np.full((12, 1200), np.nan, dtype)
    expected = whole.copy()
    m, n = whole[cut].shape
    expected[cut] = fastlam.simulate(PROCESS, irregular_times(m), n, seed=SEED, dtype=dtype)
    out = kind(whole)[cut]
    assert fastlam.simulate(PROCESS, kind(irregular_times(m)), n, seed=SEED, dtype=dtype, out=out) is out
    np.testing.assert_array_equal(whole, expected)


@DTYPES
@ANTITHETIC
def test_growing_keeps_every_value(dtype, antithetic):
    names = {"seed": SEED, "dtype": dtype, "antithetic": antithetic}
    whole = fastlam.simulate(PROCESS, irregular_times(9), 2049, **names)
    for n, m in [(1, 9), (64, 1), (1000, 2), (1025, 3), (2048, 5), (2049, 8)]:
        part = fastlam.simulate(PROCESS, irregular_times(9)[:m], n, **names)
        np.testing.assert_array_equal(part, whole[:m, :n])


@DTYPES
@ANTITHETIC
@pytest.mark.parametrize("first", [0, 2**32 - 1001, 2**40 + 7, 2**63 - 999, 2**64 - 2101])
def test_slices_of_the_family(dtype, antithetic, first):
    """Cut where antithetic pairs, vectors and tiles are cut; the last ends with path 2**64 - 1."""
    names = {"seed": SEED, "dtype": dtype, "antithetic": antithetic}
    times, n = irregular_times(5), 2101
    whole = fastlam.simulate(PROCESS, times, n, first_path=first, **names)
    cuts = [0, 1, 2, 65, 1000, 1001, 2100, n]
    parts = [
        fastlam.simulate(PROCESS, times, b - a, first_path=first + a, **names) for a, b in itertools.pairwise(cuts)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert_like_reference(whole, PROCESS, times, seed=SEED, first_path=first, antithetic=antithetic)


@DTYPES
@pytest.mark.parametrize("first", [0, 1, 2**33 + 1])
def test_antithetic_pairs_are_mirrors(dtype, first):
    process, times = fastlam.Brownian(mu=0.0, sigma=0.7), irregular_times(6)
    x = fastlam.simulate(process, times, 301, seed=SEED, dtype=dtype, first_path=first, antithetic=True)
    plain = fastlam.simulate(process, times, 301, seed=SEED, dtype=dtype, first_path=first)
    even = first % 2  # where the first path of even number stands
    np.testing.assert_array_equal(x[:, even::2], plain[:, even::2])
    np.testing.assert_array_equal(x[:, even + 1 :: 2], -x[:, even:-1:2][:, : x[:, even + 1 :: 2].shape[1]])


@DTYPES
@ANTITHETIC
@pytest.mark.parametrize(("m", "n"), [(9, 100_001), (301, 5003)])  # chunks of 1024 paths; of 64 to 1024, by threads
def test_bits_do_not_depend_on_threads(set_threads, dtype, antithetic, m, n):
    answers = []
    for threads in (1, 2, 3, 7):
        set_threads(threads)
        answers.append(fastlam.simulate(PROCESS, irregular_times(m), n, seed=SEED, dtype=dtype, antithetic=antithetic))
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


def golden_lines():
    """Paths of all four kernels as hexadecimal floats, a time per line. To write the file anew, after the stream of
    README, "The stream", was changed on purpose: python tests/test_simulate.py > tests/golden_paths.txt
    """
    times = np.array([0.0, 0.1, 0.25, 0.3, 1.0, 1.5, 1.75, 3.0, 10.0])
    for dtype in ("float32", "float64"):
        for antithetic in (False, True):
            x = fastlam.simulate(PROCESS, times, 5, seed=SEED, dtype=dtype, first_path=2**32 - 3, antithetic=antithetic)
            for j, row in enumerate(x):
                yield f"{dtype} {'antithetic' if antithetic else 'plain'} {j} " + " ".join(float(v).hex() for v in row)


def test_golden_paths():
    assert list(golden_lines()) == GOLDEN.read_text().splitlines()


def can_run(processor):
    if platform.machine() != "x86_64":
        return False
    return processor == "x86-64" or binding.get_host_cpu_features().get("avx2", False)


@pytest.mark.parametrize(
    ("processor", "features"),
    [
        ("x86-64", ""),  # no fma unit: fma in software
        ("haswell", "+avx,+avx2,+fma,+bmi,+bmi2,+sse4.2,+sse4.1,+ssse3,+popcnt,+lzcnt,+f16c"),
    ],
)
def test_golden_paths_on_other_processors(processor, features):
    if not can_run(processor):
        pytest.skip(f"waits for a processor that runs code for {processor}")
    environment = {**os.environ, "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features}
    child = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=True)
    assert child.stdout == GOLDEN.read_text()


if __name__ == "__main__":
    print(*golden_lines(), sep="\n")
