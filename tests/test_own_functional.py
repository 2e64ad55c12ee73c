"""Functionals that users define: of a few lines; what is missing from them."""

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from numpy_cases import bits
from simulate_mean_cases import PROCESS, TIMES, TORCH_TIMES, leaf

import fastlam
from fastlam.kernels.selection import minimum, positive


@njit(inline="always")
def spread_of(x, parameters):
    low, high = parameters
    return minimum(positive(x - low), high - low)


@dataclass(frozen=True)
class Spread(fastlam.PathFunctional):
    low: Any
    high: Any = 2.0
    value = staticmethod(spread_of)


@dataclass(frozen=True, slots=True)
class SlottedHalf(fastlam.PathFunctional):
    low: Any
    high: Any = 2.0
    value, factor = staticmethod(spread_of), 0.5


SAME = fastlam.Functional("min(max(x - low, 0), high - low)", {"low": 1.0, "high": 2.0})


@pytest.mark.parametrize("kind", [Spread, SlottedHalf])
def test_value(kind):
    """That of the formula, bit for bit, from stored paths and in one pass."""
    x = fastlam.simulate(PROCESS, TIMES, 1100, seed=3)
    want = bits(kind.factor * fastlam.mean(SAME, x))
    for times in (TIMES, TORCH_TIMES):
        assert bits(fastlam.simulate_mean(kind(1.0), PROCESS, times, 1100, seed=3)) == want
        assert bits(fastlam.mean(kind(1.0), fastlam.simulate(PROCESS, times, 1100, seed=3))) == want


def test_gradients():
    """A path between the two pays one less for one more of low; one above, one more for one more of high."""
    low, high = leaf(1.0), leaf(2.0)
    fastlam.simulate_mean(Spread(low, high), PROCESS, TORCH_TIMES, 1100, seed=3).sum().backward()
    x = fastlam.simulate(PROCESS, TIMES, 1100, seed=3)
    assert low.grad.item() == pytest.approx(-(x > 1).mean(axis=1).sum(), rel=1e-14)  # of whole numbers, over 1100
    assert high.grad.item() == pytest.approx((x > 2).mean(axis=1).sum(), rel=1e-14)
    some = leaf([[0.5, 1.5, 2.5]])
    fastlam.mean(Spread(1.0), some).backward()
    assert torch.equal(some.grad, torch.tensor([[0, 1 / 3, 0]], dtype=torch.float64))


def test_parameters_are_checked_and_kept():
    for copy in (Spread(1), pickle.loads(pickle.dumps(Spread(1.0)))):
        assert copy == Spread(1.0)
        assert copy.parameters() == {"low": 1.0, "high": 2.0}
    with pytest.raises(ValueError, match="Spread: high must be finite, but is inf"):
        Spread(1.0, np.inf)
    with pytest.raises(TypeError, match="Spread: low must be one real number, but is 'x'"):
        Spread("x")


class Bare(fastlam.PathFunctional):
    pass


class Plain(fastlam.PathFunctional):
    value = staticmethod(spread_of)


@pytest.mark.parametrize(
    ("functional", "words"),
    [
        (Bare(), "functional is a Bare, whose class has no element `value`"),
        (fastlam.PathFunctional(), "functional is a PathFunctional, whose class has no element `value`"),
        (Plain(), "Plain: a functional must be a dataclass, whose fields are its parameters"),
    ],
)
def test_without_an_element_or_fields(functional, words):
    with pytest.raises(TypeError, match=words):
        fastlam.mean(functional, np.ones((2, 3)))
    with pytest.raises(TypeError, match=words):
        fastlam.simulate_mean(functional, PROCESS, TIMES, 2, seed=1)


@pytest.mark.parametrize("kind", [fastlam.PathFunctional, fastlam.Process])
def test_other_bases_take_part(kind):
    """As Python wants of __init_subclass__."""
    made = []

    class Base:
        def __init_subclass__(cls, label):
            made.append((cls.__name__, label))

    class Mixed(kind, Base, label="a"):
        pass

    assert made == [("Mixed", "a")]
