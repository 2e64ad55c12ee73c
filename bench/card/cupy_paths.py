"""Normals, Brownian paths and means of squares in CuPy, by cuRAND. `cupy` is the module, given by who has found it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.processes import DT, MU, SIGMA

SEED = 7
HOST = {"XORWOW": 101, "Philox": 161}  # cuRAND's numbers for generators of its host interface
DEVICE = {"XORWOW": "XORWOW", "Philox": "Philox4x3210"}  # CuPy's names for those of its device interface
THREADS = 2048  # that a multiprocessor holds: each has a generator
RUNNING = "T total = 0; for (long long j = 0, at = i; j < times; ++j, at += paths) { total += x[at]; x[at] = total; }"
Normals = Callable[[float, float, int, int], Any]  # of a mean and a deviation, (m, n) in float32


def host(cupy: Any, name: str) -> Normals:
    """By cuRAND's own kernels."""
    state = cupy.random.RandomState(SEED, HOST[name])
    return lambda mean, deviation, m, n: state.normal(mean, deviation, (m, n), "float32")


def device(cupy: Any, name: str) -> Normals:
    """By CuPy's kernels, whose threads call cuRAND: as many generators as threads fit on the card."""
    threads = THREADS * cupy.cuda.Device().attributes["MultiProcessorCount"]
    generator = cupy.random.Generator(getattr(cupy.random, DEVICE[name])(SEED, size=threads))

    def normals(mean: float, deviation: float, m: int, n: int) -> Any:
        z = generator.standard_normal((m, n), "float32")  # with out= it would be copied there
        if (mean, deviation) != (0.0, 1.0):
            z *= cupy.float32(deviation)
            z += cupy.float32(mean)
        return z

    return normals


SOURCES: dict[str, Callable[[Any], Normals]] = {
    "cuRAND XORWOW": lambda cupy: host(cupy, "XORWOW"),
    "cuRAND Philox": lambda cupy: host(cupy, "Philox"),
    "cupy.random.Generator XORWOW": lambda cupy: device(cupy, "XORWOW"),
    "cupy.random.Generator Philox": lambda cupy: device(cupy, "Philox"),
}


def by_cumsum(cupy: Any) -> Callable[[int, int], Any]:
    """Paths (m, n) by a cumulative sum along times, in place."""
    normals = host(cupy, "XORWOW")

    def paths(m: int, n: int) -> Any:
        z = normals(MU * DT, SIGMA * DT**0.5, m, n)
        return cupy.cumsum(z, axis=0, out=z)

    return paths


def by_kernel(cupy: Any, name: str = "XORWOW") -> Callable[[int, int], Any]:
    """Paths (m, n) by an ElementwiseKernel, a thread a path, in place."""
    normals = host(cupy, name)
    running = cupy.ElementwiseKernel("int64 times, int64 paths", "raw T x", RUNNING, "running_sum")

    def paths(m: int, n: int) -> Any:
        z = normals(MU * DT, SIGMA * DT**0.5, m, n)
        running(m, n, z.ravel(), size=n)
        return z

    return paths


def mean_square(cupy: Any) -> Callable[[Any], Any]:
    """Means of squares of rows, added in float64, in one ReductionKernel."""
    total = cupy.ReductionKernel("T x", "float64 y", "(double)x * x", "a + b", "y = a", "0", "sum_of_squares")
    return lambda x: total(x, axis=1) / x.shape[1]
