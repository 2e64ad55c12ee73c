"""Rows of stored paths, and of raw normals: ours beside torch, CuPy and cuRAND."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from numba import njit

import fastlam
from bench.card import cupy_paths, torch_paths
from bench.card.checks import check_normal, check_paths
from bench.card.limits import philox_of
from bench.card.place import Place
from bench.card.row import Row
from bench.processes import MU, SIGMA

SEED = 7
PATHS, PATHS_64, NORMALS = "simulate float32", "simulate float64", "raw normals float32"
STEPS = "torch.compile, 8 steps a graph"  # fused, by no cumsum
BYTES = {"float32": 4, "float64": 8}
FEW = 64  # paths whose bits are compared with the CPU's


@njit(inline="always")
def _normal(x: Any, z: Any, coefficients: Any) -> Any:
    return z


@njit(inline="always")
def _nothing(t: Any, dt: Any, parameters: Any) -> Any:
    return (dt,)


@dataclass(frozen=True)
class Normals(fastlam.Process):
    """Its paths are their own noise."""

    x0: float = 0.0
    step, coefficients, n_coefficients = staticmethod(_normal), staticmethod(_nothing), 1


def paths(place: Place) -> Iterator[Row]:
    """Brownian motion in float32: new memory at each call, as the baselines take it, and one given."""
    m = place.sizes.m
    n, note = place.fitting(place.sizes.n, 2.5 * 4 * m)  # of baselines: noise, paths and what cumsum takes
    work = float(m * n), " normals"
    for name, given in (("fastlam", False), ("fastlam, out=", True)):
        make = lambda given=given: ours(place, n, "float32", given)  # noqa: E731
        yield Row(PATHS, name, make, ours=True, work=work, limit=philox_of("float32"), note=note)
    for name, function in torch_paths.PATHS.items():
        yield Row(PATHS, name, lambda function=function: by_torch(place, n, function), work=work, note=note)
    for name, make in (
        ("torch.compile randn, cumsum", torch_paths.compiled_cumsum),
        (STEPS, torch_paths.compiled_steps),
    ):
        yield Row(PATHS, name, lambda make=make: by_torch(place, n, make(place.compile)), work=work, note=note)
    if place.cupy is not None:
        for name, make in (
            ("CuPy XORWOW, cumsum", cupy_paths.by_cumsum),
            ("CuPy XORWOW, ElementwiseKernel", cupy_paths.by_kernel),
            ("CuPy Philox, ElementwiseKernel", lambda cupy: cupy_paths.by_kernel(cupy, "Philox")),
        ):
            yield Row(PATHS, name, lambda make=make: by_cupy(place, n, make(place.cupy)), work=work, note=note)


def paths_float64(place: Place) -> Iterator[Row]:
    """Ours in float64."""
    m = place.sizes.m
    n, note = place.fitting(place.sizes.n_other, 8 * m)
    make = lambda: ours(place, n, "float64", True)  # noqa: E731
    work = float(m * n), " normals"
    yield Row(PATHS_64, "fastlam, out=", make, ours=True, work=work, limit=philox_of("float64"), note=note)


def ours(place: Place, n: int, dtype: str, given: bool) -> Callable[[], Any]:
    """`simulate`: the bits of the CPU for the first paths, the law for all."""
    process, times = fastlam.Brownian(MU, SIGMA), place.times(dtype)
    out = torch.full((len(times), n), torch.nan, dtype=times.dtype, device=place.device) if given else None
    call = lambda: fastlam.simulate(process, times, n, seed=SEED, out=out)  # noqa: E731
    x = call()
    few = fastlam.simulate(process, times.cpu(), FEW, seed=SEED)
    assert torch.equal(x[:, :FEW].cpu(), few), "paths that are not the CPU's, bit for bit"
    check_paths(x, times)
    return call


def by_torch(place: Place, n: int, function: Callable[..., Any]) -> Callable[[], Any]:
    """One way of torch's."""
    call = lambda: function(place.sizes.m, n, place.device)  # noqa: E731
    check_paths(call(), place.times())
    return call


def by_cupy(place: Place, n: int, function: Callable[[int, int], Any]) -> Callable[[], Any]:
    """One way of CuPy's."""
    call = lambda: function(place.sizes.m, n)  # noqa: E731
    check_paths(call(), place.times())
    return call


def normals(place: Place) -> Iterator[Row]:
    """Normals stored: as paths of a process that is its own noise, beside cuRAND through CuPy, and torch."""
    m = place.sizes.m
    n, note = place.fitting(place.sizes.n, 1.25 * 4 * m)
    work = float(m * n), " normals"
    limit = philox_of("float32")
    yield Row(NORMALS, "fastlam", lambda: ours_raw(place, m, n), ours=True, work=work, limit=limit, note=note)
    drawn = lambda: torch.empty(m, n, device=place.device).normal_()  # noqa: E731
    yield Row(NORMALS, "torch normal_", lambda: checked_normals(drawn), work=work, note=note)
    for name, source in cupy_paths.SOURCES.items() if place.cupy is not None else ():
        make = lambda source=source: raw_by_cupy(source(place.cupy), m, n)  # noqa: E731
        yield Row(NORMALS, name, make, work=work, note=note)


def ours_raw(place: Place, m: int, n: int) -> Callable[[], Any]:
    """`simulate` of `Normals`: new memory at each call, as CuPy and torch take it."""
    process, times = Normals(), place.times()
    call = lambda: fastlam.simulate(process, times, n, seed=SEED)  # noqa: E731
    few = fastlam.simulate(process, times.cpu(), FEW, seed=SEED)
    assert torch.equal(call()[:, :FEW].cpu(), few), "normals that are not the CPU's, bit for bit"
    return checked_normals(call)


def raw_by_cupy(source: cupy_paths.Normals, m: int, n: int) -> Callable[[], Any]:
    """One way of CuPy's."""
    return checked_normals(lambda: source(0.0, 1.0, m, n))


def checked_normals(call: Callable[[], Any]) -> Callable[[], Any]:
    """The first and last rows are standard normals, and not the same."""
    z = call()
    first, last = (torch.as_tensor(z[j]) for j in (0, -1))
    check_normal(first, 0.0, 1.0)
    check_normal(last, 0.0, 1.0)
    assert not torch.equal(first, last), "two rows with the same normals"
    return call
