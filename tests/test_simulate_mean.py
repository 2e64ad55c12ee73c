"""One pass without paths against `mean_square(simulate(...))`, bit for bit, and against NumPy on stored paths."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_cases import DTYPE, bits
from simulate_mean_cases import PROCESS, SEED, TIMES, irregular_times, leaf, leaves

import fastlam

ANTITHETIC = pytest.mark.parametrize("antithetic", [False, True], ids=["plain", "antithetic"])
SIZES = (1, 2, 127, 128, 129, 1023, 1024, 1025, 2047, 2048, 2049, 5000)  # around lanes and tiles
LENGTHS = range(1, 10)  # around the two times of a step and the 4 (float32) or 2 (float64) of a Philox block


def stored(process, times, n_paths, lam=1.0, **names):
    return fastlam.mean_square(fastlam.simulate(process, times, n_paths, **names), lam)


def assert_same_as_stored(*arguments, **names):
    assert bits(fastlam.simulate_mean_square(*arguments, **names)) == bits(stored(*arguments, **names))


@pytest.fixture
def threads():
    count = torch.get_num_threads()
    yield (1, 2, 3, 7)
    torch.set_num_threads(count)


@DTYPE
@ANTITHETIC
@pytest.mark.parametrize("n", SIZES)
def test_same_bits_as_stored(dtype, antithetic, n):
    """From an odd and an even path, over the edge of the counter's low word, up to the last path of the family."""
    for m in LENGTHS:
        for first_path in (7, 2**32 - n // 2 - 1, 2**64 - n):
            names = {"seed": SEED, "first_path": first_path, "antithetic": antithetic, "dtype": dtype}
            assert_same_as_stored(PROCESS, irregular_times(m), n, 0.3, **names)


@DTYPE
@ANTITHETIC
@pytest.mark.parametrize(("n", "m"), [(70_001, 5), (70_001, 257), (2**17, 2)])
def test_same_bits_of_many_chunks(dtype, antithetic, n, m):
    assert_same_as_stored(PROCESS, irregular_times(m), n, seed=1, first_path=5, antithetic=antithetic, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8"])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize(
    ("asked", "answer"), [(None, None), ("float32", "float32"), (np.float64, "float64"), (torch.float64, "float64")]
)
def test_kinds_of_times(dtype, kind, asked, answer):
    """The answer is of the kind of times, and of their dtype unless another is asked for; integers give float32."""
    times = kind(np.array([1, 2, 5], dtype))
    got = fastlam.simulate_mean_square(PROCESS, times, 300, seed=1, dtype=asked)
    assert type(got) is type(times)
    own = dtype if dtype.startswith("float") else "float32"
    assert str(got.dtype).removeprefix("torch.") == (answer or own)
    assert bits(got) == bits(stored(PROCESS, times, 300, seed=1, dtype=asked))


@pytest.mark.parametrize("times", [TIMES[::-1][::-1], TIMES.astype(">f8"), np.repeat(TIMES, 3)[::3]])
def test_layouts_of_times(times):
    assert bits(fastlam.simulate_mean_square(PROCESS, times, 300, seed=1)) == bits(stored(PROCESS, TIMES, 300, seed=1))


def test_times_from_zero():
    assert_same_as_stored(PROCESS, np.array([0.0, 1.0, 2.0]), 300, seed=1)


@pytest.mark.parametrize("lam", [2, 0.3, np.float32(0.3), np.array(0.3), np.array([0.3]), np.array([1.0, -2.0, 3.0])])
def test_lam(lam):
    assert_same_as_stored(PROCESS, TIMES, 300, lam, seed=1)
    assert_same_as_stored(PROCESS, torch.from_numpy(TIMES), 300, lam, seed=1)


@pytest.mark.parametrize("lam", [torch.tensor(0.3), leaf(0.3), torch.tensor([0.3]), torch.tensor([1.0, -2.0, 3.0])])
def test_lam_as_a_tensor(lam):
    times = torch.from_numpy(TIMES)
    got, want = (f(PROCESS, times, 300, lam, seed=1).detach() for f in (fastlam.simulate_mean_square, stored))
    assert bits(got) == bits(want)


@pytest.mark.parametrize(
    "process",
    [
        fastlam.CoxIngersollRoss(0.5, 0.1, 0.9, 0.05),  # observed by another element; often at 0
        fastlam.Diffusion("mu * x", "s * sqrt(1 + x**2)", {"mu": 0.1, "s": 0.3, "x0": 1.0}, scheme="milstein"),
    ],
    ids=lambda process: type(process).__name__,
)
def test_same_bits_for_other_processes(process):
    assert_same_as_stored(process, irregular_times(5), 3000, seed=1)


def test_same_bits_for_any_number_of_threads(threads):
    """Of the means, of the standard errors and of the derivatives."""

    def answer(count):
        torch.set_num_threads(count)
        process, parameters = leaves(fastlam.Brownian)
        times = torch.from_numpy(irregular_times(5))
        k, stderr = fastlam.simulate_mean_square(process, times, 100_001, seed=1, return_stderr=True)
        jacobian = [torch.stack(torch.autograd.grad(row, parameters, retain_graph=True)) for row in k]
        small = fastlam.simulate_mean_square(PROCESS, times, 100_001, seed=1, dtype="float32")
        return [bits(tensor.detach()) for tensor in (k, stderr, torch.stack(jacobian), small)]

    answers = [answer(count) for count in threads]
    assert answers[1:] == answers[:-1]


@ANTITHETIC
@pytest.mark.parametrize("p", [0, 1, 5, 7])
def test_halves_of_a_family_average_to_the_whole(antithetic, p):
    """Halves are nodes of the whole's tree of additions, and division by a power of two is exact."""
    n = 1024 * 2**p

    def part(first, count):
        names = {"seed": 1, "first_path": first, "antithetic": antithetic}
        return fastlam.simulate_mean_square(PROCESS, irregular_times(5), count, **names)

    assert bits((part(0, n) + part(n, n)) / 2) == bits(part(0, 2 * n))


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(
    coefficients=st.sampled_from([1, 3, 9]).flatmap(lambda n: st.lists(st.floats(-5, 5), min_size=n, max_size=n)),
    center=st.floats(-3, 3),
    dt=st.lists(st.floats(1e-6, 3), min_size=1, max_size=9),
    n=st.integers(1, 3000),
    seed=st.integers(0, 2**64 - 1),
    first_path=st.integers(0, 2**64 - 3000),
)
def test_polynomials(coefficients, center, dt, n, seed, first_path):
    """Against NumPy. Both sides make at most 16 roundings by Horner's rule and 30 in a sum, each of 1.1e-16 of the sum
    of absolute terms, which is never below the tolerance's scale.
    """
    names = {"seed": seed, "first_path": first_path}
    times = np.cumsum(dt)
    got = fastlam.simulate_mean(fastlam.Polynomial(coefficients, center), PROCESS, times, n, **names)
    x = fastlam.simulate(PROCESS, times, n, **names) - center
    powers = x[..., np.newaxis] ** np.arange(len(coefficients))
    want = (powers @ coefficients).mean(axis=1)
    scale = (abs(powers) @ abs(np.array(coefficients))).mean(axis=1)
    assert (abs(got - want) <= 2e-14 * scale).all()


def test_functional():
    """A payoff with a kink; tolerance: a sum of 3000 terms of order one, rounded 30 times at most, on both sides."""
    call = fastlam.Functional("max(x - strike, 0)", {"strike": 1.2})
    x = fastlam.simulate(PROCESS, TIMES, 3000, seed=1)
    got = fastlam.simulate_mean(call, PROCESS, TIMES, 3000, seed=1)
    np.testing.assert_allclose(got, np.maximum(x - 1.2, 0).mean(axis=1), rtol=1e-14)


def test_square_is_what_mean_square_says():
    got = fastlam.simulate_mean(fastlam.Square(0.3), PROCESS, TIMES, 300, seed=1)
    assert bits(got) == bits(fastlam.simulate_mean_square(PROCESS, TIMES, 300, 0.3, seed=1))
