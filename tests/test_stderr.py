"""simulate_mean's standard errors: against NumPy on stored paths, their scale, and how often they tell the truth."""

import numpy as np
import pytest
import torch
from numba import carray, njit, types
from numpy_cases import bits
from simulate_mean_cases import PROCESS, TIMES, TORCH_TIMES, leaf, leaves, mean_square

import fastlam
from fastlam.kernels.cpu_leaf import make_spread
from fastlam.kernels.identity import identity
from fastlam.kernels.memory import pointer

ANTITHETIC = pytest.mark.parametrize("antithetic", [False, True], ids=["plain", "antithetic"])


def by_numpy(values, antithetic):
    """Standard error of the mean of each row; pairs of an antithetic family are the independent ones."""
    if antithetic:
        values = values.reshape(len(values), -1, 2).mean(axis=2)
    return values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])


def both(process=PROCESS, times=TIMES, n_paths=500, lam=1.0, **names):
    return mean_square(process, times, lam, n_paths, return_stderr=True, **names)


@ANTITHETIC
@pytest.mark.parametrize("n", [4, 254, 256, 258, 1024, 1026, 2050, 5000, 70_002])
def test_against_numpy(antithetic, n):
    """Sums of up to 70,002 squares of order one, rounded 40 times at most on both sides: 1e-14 of them. Ours are about
    the first path's square, so that with few pairs what is left of them can be a hundredth.
    """
    names = {"seed": 3, "first_path": 2**32 - 100, "antithetic": antithetic}
    got = both(n_paths=n, **names)[1]
    want = by_numpy(fastlam.simulate(PROCESS, TIMES, n, **names) ** 2, antithetic)
    np.testing.assert_allclose(got, want, rtol=1e-12)


@ANTITHETIC
def test_float32_against_numpy(antithetic):
    """Of float32 paths, in float64, rounded once: half a unit in the last place, and what float64 brings."""
    names = {"seed": 3, "antithetic": antithetic, "dtype": "float32"}
    got = both(n_paths=5000, **names)[1]
    assert got.dtype == np.float32
    want = by_numpy(np.square(fastlam.simulate(PROCESS, TIMES, 5000, **names), dtype=np.float64), antithetic)
    np.testing.assert_allclose(got, want, rtol=6e-8)


def test_of_a_functional():
    polynomial = fastlam.Polynomial([0.5, -0.2, 1.0], center=0.1)
    got = fastlam.simulate_mean(polynomial, PROCESS, TIMES, 500, seed=3, return_stderr=True)[1]
    x = fastlam.simulate(PROCESS, TIMES, 500, seed=3) - 0.1
    # 1e-14 of the sums, as above; the first path is 1.1 standard deviations off at most, so that half of them is left
    np.testing.assert_allclose(got, by_numpy(0.5 - 0.2 * x + x**2, False), rtol=2e-14)


def test_no_compiler_chooses_how_squares_are_added():
    """By fma alone: with a product apart a GPU's compiler would choose, and its bits be others."""

    @njit(inline="always")
    def itself(x, parameters):
        return x

    spread = make_spread(itself, identity, False)

    def kernel(answer, lanes, x, n, shift):
        sums = carray(pointer(answer, np.float64), (1,))
        spread(sums, 0, pointer(lanes, np.float64), n, pointer(x, np.float64), 0, shift, ())

    signature = types.void(*[types.int64] * 4, types.float64)
    (code,) = njit(signature, no_cpython_wrapper=True, no_cfunc_wrapper=True)(kernel).inspect_llvm().values()
    assert "@llvm.fma" in code
    assert "fmul" not in code


def test_huge_mean_and_tiny_variance():
    """Squares of 1e8 whose standard deviation is 2: each is rounded by 1.5e-8 at most, which is 7e-9 of that."""
    process = fastlam.Brownian(mu=0.0, sigma=1e-4, x0=1e4)
    got = both(process, n_paths=5000)[1]
    want = by_numpy(fastlam.simulate(process, TIMES, 5000, seed=3) ** 2, False)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    exact = 2 * 1e4 * 1e-4 * np.sqrt(TIMES / 5000)
    np.testing.assert_allclose(got, exact, rtol=4 / np.sqrt(2 * 5000))  # 4 standard errors of a standard deviation


@pytest.mark.parametrize("names", [{"n_paths": 1}, {"n_paths": 2, "antithetic": True}], ids=["path", "pair"])
@pytest.mark.parametrize("times", [TIMES, TORCH_TIMES], ids=["numpy", "torch"])
def test_of_one_alone(names, times):
    """Not known; the mean is."""
    mean, stderr = both(times=times, **names)
    assert np.isnan(np.asarray(stderr)).all()
    assert np.isfinite(np.asarray(mean)).all()


def test_without_noise():
    """All paths are the same: 0, exactly."""
    assert (both(fastlam.Brownian(mu=0.3, sigma=0.0, x0=1.5))[1] == 0).all()


@ANTITHETIC
def test_mean_is_the_same_with_it(antithetic):
    names = {"n_paths": 5000, "antithetic": antithetic}
    assert bits(both(**names)[0]) == bits(mean_square(PROCESS, TIMES, **names))


@pytest.mark.parametrize("lam", [2.0, -0.3, 1e300, np.array([1.0, -2.0, 0.0])], ids=str)
@pytest.mark.parametrize("times", [TIMES, TORCH_TIMES], ids=["numpy", "torch"])
def test_scaled_by_lam(lam, times):
    """By its absolute value, in the dtype of the answer: float32 has no 1e300."""
    got, alone = both(times=times, lam=lam)[1], both(times=times)[1]
    assert type(got) is type(times)
    np.testing.assert_array_equal(got, np.abs(lam) * np.asarray(alone))


@pytest.mark.parametrize("lam", [-0.3, [1.0, -2.0, 0.0]], ids=["scalar", "vector"])
def test_carries_no_gradient(lam):
    """While the mean beside it does; torch.func, which would take none for 0, is told."""
    process, theta = leaves(fastlam.Brownian)
    mean, stderr = both(process, TORCH_TIMES, lam=leaf(lam))
    assert not stderr.requires_grad
    assert all(slope.abs() > 0 for slope in torch.autograd.grad(mean.square().sum(), theta))
    np.testing.assert_array_equal(stderr, np.abs(lam) * np.asarray(both()[1]))
    factor = torch.tensor(lam, dtype=torch.float64)
    slope = torch.func.grad(lambda factor: both(process, TORCH_TIMES, lam=factor)[0].sum())(factor)
    assert slope.all()
    with pytest.raises(NotImplementedError, match="simulate_mean_square: standard errors carry no derivatives"):
        torch.func.grad(lambda factor: both(process, TORCH_TIMES, lam=factor)[1].sum())(factor)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, in forward mode
def test_derivative_in_a_parameter_raises():
    def stderr(sigma):
        return both(fastlam.Brownian(0.3, sigma, 1.5), TORCH_TIMES)[1].sum()

    sigma = torch.tensor(0.7, dtype=torch.float64)
    same = torch.func.vmap(stderr)(sigma.expand(2))
    assert torch.equal(same, stderr(sigma).expand(2))
    for transform in (torch.func.grad, torch.func.jacfwd):
        with pytest.raises(NotImplementedError, match="standard errors carry no derivatives"):
            transform(stderr)(sigma)


@pytest.mark.parametrize(("antithetic", "n"), [(False, 200), (True, 1000)], ids=["plain", "antithetic"])
def test_coverage(antithetic, n):
    """Of 2000 intervals of mean +- 1.96 stderr, on slices of one family, 95% hold the mean.

    Within 4 standard deviations of the binomial. Pairs' means are a chi-square's, skewed: for the interval to be near
    its 95% they must be more.
    """
    exact, times = (1.5 + 0.3) ** 2 + 0.7**2, np.array([1.0])
    hits = 0
    for part in range(2000):
        mean, stderr = both(times=times, n_paths=n, first_path=part * n, antithetic=antithetic)
        hits += abs(mean[0] - exact) < 1.96 * stderr[0]
    assert abs(hits - 0.95 * 2000) < 4 * np.sqrt(2000 * 0.95 * 0.05)


def test_antithetic_is_less():
    """What mirrored noise is for: a mean in which the linear part cancels."""
    plain, mirrored = (both(n_paths=5000, antithetic=antithetic)[1] for antithetic in (False, True))
    assert (mirrored < 0.5 * plain).all()
