"""What kernels are made of is made once: however many threads ask at once, however much was made since."""

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from numba import njit

from fastlam import derivatives, diffusion, functionals
from fastlam.kernels.adding import adding
from fastlam.kernels.identity import identity
from fastlam.kernels.launch import once

N_THREADS = 4


def new_element():
    """Twice x, a function of its own at each call."""

    @njit(inline="always")
    def element(x, *others):
        return x * 2.0

    return element


def new_coefficients():
    @njit(inline="always")
    def coefficients(t, dt, parameters):
        return parameters[0] * dt, parameters[1] * t

    return coefficients


NUMBERS = itertools.count(1000)
# Each gives a question that was never asked before.
QUESTIONS = {
    "adding": lambda: partial(adding, new_element()),
    "tangents": lambda: partial(derivatives.tangents, new_element(), 0, 1),
    "coefficient_slopes": lambda: partial(derivatives.coefficient_slopes, new_coefficients(), 2),
    "terms": lambda: partial(derivatives.terms, new_element(), identity, 0, (), 1),
    "slope": lambda: partial(derivatives.slope, new_element(), 0),
    "Functional": lambda: partial(functionals._registered, f"{next(NUMBERS)} * x", ()),
    "Diffusion": lambda: partial(diffusion._registered, f"{next(NUMBERS)} * x", "1", ("x0",), "euler"),
}


@pytest.fixture
def switching():
    """Threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def asked_at_once(ask):
    """The answers of threads that call `ask` together."""
    barrier = threading.Barrier(N_THREADS)

    def task(_):
        barrier.wait()
        return ask()

    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(task, range(N_THREADS)))


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("kind", QUESTIONS)
def test_threads_get_the_same(kind):
    """Or each would compile a kernel of its own."""
    for _ in range(10):
        first, *others = asked_at_once(QUESTIONS[kind]())
        assert all(other is first for other in others)


def test_arguments_are_told_apart_by_their_types():
    """1 is a formula, True is none."""
    asked = []
    kind_of = once(lambda value: asked.append(value) or type(value))
    assert [kind_of(value) for value in (1, True, 1.0, 1, True, 1.0)] == [int, bool, float] * 2
    assert len(asked) == 3


def test_nothing_is_forgotten():
    """What was made anew would be compiled anew, each time."""
    first = QUESTIONS["adding"]()
    before = first()
    for _ in range(2000):
        QUESTIONS["adding"]()()
    assert first() is before
