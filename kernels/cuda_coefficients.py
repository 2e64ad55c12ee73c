"""What steps take, computed on the GPU where times and parameters are: by the elements of cpu_coefficients.py."""

import numpy as np
from numba import njit, types

from .cuda import F64, I64, THREADS, D, I, cuda, make_load, make_store


def make_coefficients(coefficients, n_parameters, n_values, picks, dtype):
    """values[j, k] = coefficients(t, dt, parameters)[picks[k]], 0 where that is below 0, of the step to times[j].

    Evaluated in float64 and rounded once. Where times do not increase, which nobody could raise for here, NaN.
    """
    load_theta, store, pick = make_load(n_parameters), make_store(len(picks)), _make_pick(picks)

    def fill(times, n_times, parameters, values):
        j = I64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
        if j < n_times:
            t = times[j - 1] if j > 0 else F64(0)
            dt = times[j] - t
            if not (dt > 0 or (j == 0 and dt == 0)):
                dt = F64(np.nan)
            store(values, j * len(picks), 1, pick(coefficients(t, dt, load_theta(parameters, 0, 1))))

    return fill, types.void(D, I, D, types.CPointer(getattr(types, dtype)))


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
