"""Every kernel for GPUs, as `make_*` and its arguments."""

from numba import types

import fastlam
from fastlam import derivatives, one_pass
from fastlam.elements import record
from fastlam.kernels import cuda, cuda_coefficients, cuda_mean, cuda_simulate_mean, cuda_tree
from fastlam.kernels.identity import no_tangents
from fastlam.kernels.root import root
from fastlam.kernels.square import square_slope
from fastlam.stream import Stream

PROCESSES = {
    "brownian": fastlam.Brownian(0.1, 0.3, 1.0),
    "geometric_brownian": fastlam.GeometricBrownian(0.1, 0.3, 1.0),
    "ornstein_uhlenbeck": fastlam.OrnsteinUhlenbeck(1.2, 0.1, 0.4, 0.5),
    "cox_ingersoll_ross": fastlam.CoxIngersollRoss(1.0, 0.5, 0.2, 0.6),
    "milstein": fastlam.Diffusion("k * (m - x)", "s * x", {"k": 1.0, "m": 0.5, "s": 0.3, "x0": 0.6}, scheme="milstein"),
}
FUNCTIONALS = {
    "square": fastlam.Square(),
    "polynomial": fastlam.Polynomial([0.1, -0.2, 0.3], center=0.5),
    "sine": fastlam.Functional("sin(x)"),
    "call": fastlam.Functional("max(x - k, 0)", {"k": 0.55}),
}


def simulate(process, dtype, antithetic=False):
    dynamics = record(PROCESSES[process].handle)
    arguments = dynamics.step, dynamics.observe, dynamics.n_coefficients, dtype, antithetic
    return cuda.make_simulate, arguments, cuda.THREADS


def terms(functional, wanted):
    payoff = record(FUNCTIONALS[functional].handle)
    n = len(payoff.names)
    slopes = derivatives.terms(payoff.value, fastlam.kernels.identity.identity, n, wanted, 0) if wanted else no_tangents
    return payoff, n, slopes


def mean(functional, dtype, wanted=(), aligned=True):
    payoff, n, slopes = terms(functional, wanted)
    arguments = payoff.accumulate, slopes, n, len(wanted), dtype, dtype, aligned
    return cuda_mean.make_mean, arguments, cuda_mean.threads_together(1 + len(wanted))


def simulate_mean(process, functional, dtype, wanted=(), antithetic=False, spread=False):
    """`wanted` as `fastlam.one_pass.mean_table` takes it."""
    elements = record(PROCESSES[process].handle), record(FUNCTIONALS[functional].handle)
    arguments = one_pass.made_of(*elements, wanted, Stream(0, 0, 1, antithetic, dtype), spread)
    return cuda_simulate_mean.make_simulate_mean, arguments, cuda_simulate_mean.LANES


def coefficients(process, dtype):
    dynamics = record(PROCESSES[process].handle)
    n = dynamics.n_coefficients
    arguments = dynamics.coefficients, n, dynamics.least, tuple(range(n)), dtype
    return cuda_coefficients.make_coefficients, arguments, cuda.THREADS


def coefficient_slopes(process, dtype):
    """Those in the first parameter, and in x0."""
    dynamics = record(PROCESSES[process].handle)
    n, n_parameters = dynamics.n_coefficients, len(dynamics.names) - 1
    element = derivatives.coefficient_slopes(dynamics.coefficients, n_parameters)
    arguments = element, n_parameters * n, dynamics.least, (*range(n), *[-1] * n), dtype
    return cuda_coefficients.make_coefficients, arguments, cuda.THREADS


def make_implicit():
    """A product and a sum, not said to be one operation."""

    def implicit(x, y):
        i = cuda.cuda.threadIdx.x
        y[i] = x[i] * y[i] + x[i + 1]

    return implicit, types.void(types.CPointer(types.float32), types.CPointer(types.float32))


def make_roots(real):
    """answers[i] = the root of x[i], for i < n."""

    def roots(x, answers, n):
        i = cuda.I64(cuda.cuda.blockIdx.x) * cuda.THREADS + cuda.cuda.threadIdx.x
        if i < n:
            answers[i] = root(x[i])

    R = types.CPointer(getattr(types, real))
    return roots, types.void(R, R, types.int64)


def make_after_a_loop():
    """A value that is made before a loop of numba's and stored after it, in a part of the threads."""

    def after_a_loop(x, n, out):
        i = cuda.cuda.threadIdx.x
        if i < n:
            first = x[i] / n
            for k in range(1, 2):
                out[i + k * n] = x[i + k * n] / n
            out[i] = first

    return after_a_loop, types.void(cuda.D, cuda.I, cuda.D)


REALS = ("float32", "float64")
# process, dtype, antithetic
PATHS = {f"simulate {process} {real}": (process, real, False) for real in REALS for process in PROCESSES} | {
    f"simulate antithetic {real}": ("brownian", real, True) for real in REALS
}
# process, functional, dtype, derivatives, antithetic, with standard errors. Four in float64 are taken in two passes:
# shared memory holds no more.
ONE_PASS = {
    **{
        f"simulate_mean {process} {real}{name}": (process, "square", real, wanted, False, False)
        for real in REALS
        for process in PROCESSES
        for name, wanted in (("", ()), (" gradients", (0, 1, 2)))
    },
    **{
        f"simulate_mean {real} {antithetic} spread": ("brownian", "square", real, (0, 1), antithetic, True)
        for real in REALS
        for antithetic in (False, True)
    },
    **{
        f"simulate_mean polynomial {real}": ("brownian", "polynomial", real, tuple(range(7)), False, False)
        for real in REALS
    },
    **{f"simulate_mean call {real}": ("brownian", "call", real, (0, 1), False, False) for real in REALS},
    "simulate_mean float32 every gradient": ("ornstein_uhlenbeck", "square", "float32", (0, 1, 2, 3), False, False),
}
# functional, dtype, derivatives, aligned
ROWS = {
    **{f"mean square {real} {aligned}": ("square", real, (), aligned) for real in REALS for aligned in (False, True)},
    **{f"mean polynomial {real}": ("polynomial", real, (0, 1, 2, 3), True) for real in REALS},
    **{f"mean call {real}": ("call", real, (0,), True) for real in REALS},
}


def kernels():
    """name: (make, arguments, threads) of every kernel."""
    cases = {
        "fold": (cuda_tree.make_fold, (), cuda.THREADS),
        "numbers": (cuda_coefficients.make_numbers, (), cuda_coefficients.NUMBERS),
    }
    for make, table in ((simulate, PATHS), (simulate_mean, ONE_PASS), (mean, ROWS)):
        cases |= {name: make(*case) for name, case in table.items()}
    for dtype in REALS:
        cases |= {f"coefficients {name} {dtype}": coefficients(name, dtype) for name in PROCESSES}
        cases[f"coefficient_slopes {dtype}"] = coefficient_slopes("ornstein_uhlenbeck", dtype)
        cases[f"slope {dtype}"] = (cuda_mean.make_slope, (square_slope, 0, dtype), cuda.THREADS)
        cases[f"weigh {dtype}"] = (cuda_mean.make_weigh, (dtype,), cuda.THREADS)
        cases[f"divide {dtype}"] = (cuda_mean.make_divide, (dtype,), cuda.THREADS)
    for spread in (False, True):
        cases[f"table {spread}"] = (cuda_tree.make_table, (3, spread), cuda.THREADS)
    return cases


KERNELS = kernels()
