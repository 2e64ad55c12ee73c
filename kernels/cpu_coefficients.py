"""The loop over steps that fills what they take: coefficients and their slopes, in float64, the same for all paths."""

import numpy as np
from numba import carray, types

from .memory import exactly, load, pointer, store

F64 = np.float64
I = types.int64  # noqa: E741


def make_coefficients(coefficients, n_parameters, n_values):
    """values[j] = coefficients(t, dt, parameters) of the step to times[j] from the time before, or from 0."""

    def fill(times, n_times, parameters, values):
        grid = carray(pointer(times, F64), (n_times,))
        theta = load(pointer(parameters, F64), 0, 1, n_parameters)
        answer = pointer(values, F64)
        t = 0.0
        for j in range(n_times):
            store(answer, j * n_values, 1, exactly(coefficients(t, grid[j] - t, theta), n_values))
            t = grid[j]

    return fill, types.void(I, I, I, I)
