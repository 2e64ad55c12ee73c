"""What steps take, computed on the GPU where times and parameters are; and numbers brought there by a launch.

The elements are those of cpu_coefficients.py.
"""

import numpy as np
from numba import njit, types

from .cuda import F64, I64, THREADS, D, I, cuda, make_cast, make_load, make_store
from .memory import exactly

NUMBERS = 8  # that one launch brings


def make_coefficients(coefficients, n_values, least, picks, dtype):
    """values[j, k] = coefficients(t, dt, parameters)[picks[k]], 0 where that is below 0, of the step to times[j].

    Evaluated in float64 and rounded once. Where times do not increase, or a parameter, x0 the last, is not finite or
    below its `least`, which nobody could raise for here, NaN.
    """
    store, pick, sound = make_store(len(picks)), _make_pick_of(n_values, picks), _make_sound(least)
    load_theta, load_all = make_load(len(least) - 1), make_load(len(least))
    cast, unsound = make_cast(len(picks), F64), (np.nan,) * len(picks)

    def fill(times, n_times, parameters, values):
        j = I64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
        if j < n_times:
            t = times[j - 1] if j > 0 else F64(0)
            dt = times[j] - t
            found = cast(pick(coefficients(t, dt, load_theta(parameters, 0, 1))))
            increases = 0 < dt < np.inf or (j == 0 and dt == 0)
            store(values, j * len(picks), 1, found if increases and sound(load_all(parameters, 0, 1)) else unsound)

    return fill, types.void(D, I, D, types.CPointer(getattr(types, dtype)))


def _make_pick_of(n_values, picks):
    """pick(values) of so many values: it does not compile where there are others."""
    pick_of_any = _make_pick(picks)

    @njit(inline="always")
    def pick(values):
        return pick_of_any(exactly(values, n_values))

    return pick


def _make_pick(picks):
    """pick(values): the tuple of values[p] for p in picks, 0 for those below 0."""
    if not picks:

        @njit(inline="always")
        def pick(values):
            return ()

    else:
        first, rest = picks[0], _make_pick(picks[1:])
        if first < 0:

            @njit(inline="always")
            def pick(values):
                return (F64(0), *rest(values))

        else:

            @njit(inline="always")
            def pick(values):
                return (values[first], *rest(values))

    return pick


def _make_sound(least):
    """sound(values): is each finite, and at least the number at its place (None: any)?"""
    if not least:

        @njit(inline="always")
        def sound(values):
            return True

    else:
        first, rest = -np.inf if least[0] is None else float(least[0]), _make_sound(least[1:])

        @njit(inline="always")
        def sound(values):
            return values[0] >= first and abs(values[0]) < np.inf and rest(values[1:])

    return sound


def make_numbers():
    """values[i] = the i-th of the numbers that come with the launch, for i < count; a thread each."""

    def numbers(values, count, n0, n1, n2, n3, n4, n5, n6, n7):
        i = cuda.threadIdx.x
        low = n0 if i == 0 else n1 if i == 1 else n2 if i == 2 else n3
        high = n4 if i == 4 else n5 if i == 5 else n6 if i == 6 else n7
        if i < count:
            values[i] = low if i < 4 else high

    return numbers, types.void(D, I, *[types.float64] * NUMBERS)
