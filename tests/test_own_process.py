"""Diffusions that users define: of ten lines, with slots or mutable; what is missing from them."""

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from wide_process import Wide

import fastlam
from fastlam import reference
from fastlam.kernels.floats import fma

SEED = 2**63 + 5
TIMES = np.array([0.0, 0.1, 0.25, 0.3, 1.0, 1.5, 1.75])  # the first is the start itself


@njit(inline="always")
def pulled(x, z, coefficients):
    pull, scale = coefficients
    return fma(scale, z, fma(-pull, x, x))


@njit(inline="always")
def pulled_coefficients(t, dt, parameters):
    rate, sigma = parameters
    return rate * dt, sigma * dt**0.5


@dataclass(frozen=True, slots=True)
class Slotted(fastlam.Process):
    rate: Any
    sigma: Any
    x0: Any = 1.0
    step, coefficients = staticmethod(pulled), staticmethod(pulled_coefficients)
    n_coefficients, nonnegative = 2, ("sigma",)


@dataclass
class Mutable(fastlam.Process):
    rate: Any
    sigma: Any
    x0: Any = 1.0
    step, coefficients = staticmethod(pulled), staticmethod(pulled_coefficients)
    n_coefficients, nonnegative = 2, ("sigma",)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elements_that_answer_in_float64(dtype):
    """States and what is seen of them are rounded at every time, wherever a pair of times begins, stored or not."""
    process, x0 = Wide(0.5, torch.tensor(0.7, dtype=torch.float64, requires_grad=True)), 1.0
    times = np.array([0.1, 0.25, 0.3, 1.0, 1.5])
    x = fastlam.simulate(Wide(0.5, 0.7), times, 1100, seed=SEED, dtype=dtype)
    state = np.full(1100, x0, dtype)
    z = reference.normals(np.arange(1100, dtype=np.uint64), len(times), seed=SEED, dtype=dtype)
    for j, dt in enumerate(np.diff(times, prepend=0.0)):
        decay, scale = (np.array(value, dtype) for value in (0.5 * dt, np.float64(0.7) * dt**0.5))
        state = (state * (1.0 - 0.1 * np.float64(decay)) + 0.5 * z[j].astype(dtype) * np.float64(scale)).astype(dtype)
        np.testing.assert_allclose(x[j], 0.1 * state, rtol=0, atol=2e-6 if dtype == "float32" else 1e-12)
    named = {"seed": SEED, "dtype": dtype, "return_stderr": True}
    with torch.no_grad():
        k, _ = fastlam.simulate_mean_square(Wide(0.5, 0.7), times, 1100, **named)
    assert k.tobytes() == fastlam.mean_square(x).tobytes()
    k, stderr = fastlam.simulate_mean_square(process, torch.from_numpy(times), 1100, **named)
    assert k.detach().numpy().tobytes() == fastlam.mean_square(x).tobytes()  # beside derivatives, too
    errors = (x.astype(np.float64) ** 2).std(axis=1, ddof=1) / 1100**0.5
    np.testing.assert_allclose(stderr.numpy(), errors, rtol=1e-5 if dtype == "float32" else 1e-10)


@pytest.mark.parametrize("kind", [Slotted, Mutable])
def test_own_process(kind):
    """Against the reference's Euler scheme, in value and gradients."""
    values = {"rate": 0.5, "sigma": 0.7, "x0": 1.5}
    x = fastlam.simulate(kind(**values), TIMES, 1100, seed=SEED)

    def by_reference(rate, sigma, x0):
        step = reference.euler(lambda x, t: -rate * x, lambda x, t: sigma)
        return reference.follow(step, x0, TIMES, 1100, seed=SEED, dtype="float64")

    np.testing.assert_allclose(x, by_reference(**values), rtol=0, atol=1e-12)  # seven steps of numbers below 10
    tensors = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in values.items()}
    fastlam.simulate_mean_square(kind(**tensors), torch.tensor(TIMES), 1100, seed=SEED).sum().backward()
    for name, tensor in tensors.items():
        ends = [by_reference(**{**values, name: values[name] + h}) for h in (-1e-5, 1e-5)]
        slope = sum(sign * reference.mean_square(end).sum() for sign, end in zip((-1, 1), ends, strict=True)) / 2e-5
        assert tensor.grad.item() == pytest.approx(slope, rel=1e-8)  # of central differences: 1e-10, 1e-16 / 1e-5
    assert pickle.loads(pickle.dumps(kind(**values))) == kind(**values)
    with pytest.raises(ValueError, match=rf"{kind.__name__}: sigma must be at least 0, but is -2"):
        kind(1.0, -2.0)


def test_mutable_process_is_checked_at_launch():
    process = Mutable(1.0, 2.0)
    process.sigma = -1.0
    for launch in (fastlam.simulate, fastlam.simulate_mean_square):
        with pytest.raises(ValueError, match="sigma must be at least 0, but is -1"):
            launch(process, TIMES, 2, seed=1)


def test_process_without_fields_or_x0():
    class Plain(fastlam.Process):
        pass

    @dataclass
    class Startless(fastlam.Process):
        rate: float = 1.0

    with pytest.raises(TypeError, match="Plain: a process must be a dataclass with a field x0"):
        fastlam.simulate(Plain(), TIMES, 2, seed=1)
    with pytest.raises(TypeError, match="Startless: a process must be a dataclass with a field x0"):
        Startless()


@njit(inline="always")
def three(t, dt, parameters):
    rate, sigma = parameters
    return rate * dt, sigma * dt, sigma


@njit(inline="always")
def of_three(t, dt, parameters):
    a, b, c = parameters
    return a * dt, b * c


def undecorated(x, z, coefficients):
    return x


BADLY_MADE = [
    ({"step": staticmethod(undecorated)}, r"Bad: step must be a function under numba's @njit.*undecorated"),
    ({"coefficients": None}, r"Bad: coefficients must be a function under numba's @njit.*None"),
    ({"n_coefficients": None}, "Bad: n_coefficients, how many values coefficients returns, must be an integer"),
    ({"n_coefficients": 3}, "elements pulled_coefficients do not compile.*3 values are wanted"),
    ({"coefficients": staticmethod(three)}, "elements three do not compile.*2 values are wanted"),
    ({"coefficients": staticmethod(three), "n_coefficients": 3}, "elements pulled, identity.*expected 2, got 3"),
    ({"coefficients": staticmethod(of_three)}, "elements of_three do not compile.*expected 3, got 2"),
]


@pytest.mark.parametrize("launch", [fastlam.simulate, fastlam.simulate_mean_square])
@pytest.mark.parametrize(("attributes", "message"), BADLY_MADE)
def test_badly_made(attributes, message, launch):
    """Said by the name of the class or of the element; what returns too many values writes none of them."""
    right = {"step": staticmethod(pulled), "coefficients": staticmethod(pulled_coefficients), "n_coefficients": 2}
    fields = {"__annotations__": {"rate": Any, "sigma": Any, "x0": Any}, "rate": 0.5, "sigma": 0.7, "x0": 1.5}
    kind = dataclass(frozen=True)(type("Bad", (fastlam.Process,), {**fields, **right, **attributes}))
    with pytest.raises(TypeError, match=message):
        launch(kind(), TIMES, 5, seed=1)
