"""Normals, Brownian paths and means of squares in CuPy, by cuRAND. `cupy` is the module, given by who has found it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.processes import DT, MU, SIGMA

SEED = 7
HOST = {"XORWOW": 101, "Philox": 161}  # cuRAND's numbers for generators of its host interface
DEVICE = {"XORWOW": "XORWOW", "Philox": "Philox4x3210"}  # CuPy's names for those of its device interface
THREADS = 2048  # that a multiprocessor holds: each has a generator
RUNNING = "T total = 0; for (long long j = 0, at = i; j < m; ++j, at += n) { total += x[at]; x[at] = total; }"


def sources(cupy: Any) -> dict[str, Callable[[float, float, int, int], Any]]:
    """Each way to draw an (m, n) array of float32 normals of some mean and deviation, by name."""
    made: dict[str, Callable[[float, float, int, int], Any]] = {}
    for name, method in HOST.items():
        made[f"cuRAND {name}"] = _host(cupy, method)
    for name, generator in DEVICE.items():
        made[f"cupy.random.Generator {name}"] = _device(cupy, generator)
    return made


def _host(cupy: Any, method: int) -> Callable[[float, float, int, int], Any]:
    state = cupy.random.RandomState(SEED, method)
    return lambda mean, deviation, m, n: state.normal(mean, deviation, (m, n), "float32")


def _device(cupy: Any, name: str) -> Callable[[float, float, int, int], Any]:
    threads = THREADS * cupy.cuda.Device().attributes["MultiProcessorCount"]
    generator = cupy.random.Generator(getattr(cupy.random, name)(SEED, size=threads))

    def normals(mean: float, deviation: float, m: int, n: int) -> Any:
        z = generator.standard_normal((m, n), "float32")
        if (mean, deviation) != (0.0, 1.0):
            z *= cupy.float32(deviation)
            z += cupy.float32(mean)
        return z

    return normals


def by_cumsum(cupy: Any) -> Callable[[int, int], Any]:
    """Paths (m, n) by a cumulative sum along times, in place."""
    normals = _host(cupy, HOST["Philox"])

    def paths(m: int, n: int) -> Any:
        z = normals(MU * DT, SIGMA * DT**0.5, m, n)
        return cupy.cumsum(z, axis=0, out=z)

    return paths


def by_kernel(cupy: Any, source: str = "Philox") -> Callable[[int, int], Any]:
    """Paths (m, n) by an ElementwiseKernel, a thread a path, in place."""
    normals = _host(cupy, HOST[source])
    running = cupy.ElementwiseKernel("int64 m, int64 n", "raw T x", RUNNING, "running_sum")

    def paths(m: int, n: int) -> Any:
        z = normals(MU * DT, SIGMA * DT**0.5, m, n)
        running(m, n, z.ravel(), size=n)
        return z

    return paths


def mean_square(cupy: Any) -> Callable[[Any], Any]:
    """Means of squares of rows, added in float64, in one ReductionKernel."""
    total = cupy.ReductionKernel("T x", "float64 y", "(double)x * x", "a + b", "y = a", "0", "sum_of_squares")
    return lambda x: total(x, axis=1) / x.shape[1]
