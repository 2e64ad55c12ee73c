"""Paths of a Brownian motion, (m, n) = (256, 65536), on an even grid (all that the baselines can do as fast).

Baselines: torch, filling paths-by-times in one call and summing along the contiguous axis in place, and time-major with
a running sum: as one writes it, on one thread while it draws; torch, and NumPy with its fastest generator, on as many
threads as ours, each with a generator and paths of its own. "fresh" allocates its answer; "out" is given one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import fastlam
from bench.limits import philox_rate
from bench.processes import DT, MU, SIGMA
from fastlam import reference, threads

POOL = ThreadPoolExecutor()
TILE = 16384  # paths that a thread takes through all times: two rows stay in its cache; torch does not share them out
DTYPES = ["float32", "float64"]


def shape(full):
    return (256, 65536) if full else (16, 2048)


def check(x, axis):
    """Mean and variance of the last time, at five standard errors."""
    last = np.asarray(x).take(-1, axis=axis).astype(np.float64)
    t = DT * np.shape(x)[axis]
    assert abs(last.mean() - MU * t) < 5 * SIGMA * np.sqrt(t / last.size)
    assert abs(last.var() / (SIGMA**2 * t) - 1) < 5 * np.sqrt(2 / last.size)


def check_paths(x, times, dtype):
    """Ours: also path by path."""
    check(x, 0)
    exact = reference.simulate(MU, SIGMA, 0.0, times, 5, seed=7, dtype=dtype)
    np.testing.assert_allclose(x[:, :5], exact, rtol=0, atol=1e-5)  # float32 steps round; a wrong one is 1e-2 off


def torch_by_path(m, n, dtype, out=None):
    x = torch.empty(n, m, dtype=dtype) if out is None else out
    return x.normal_(MU * DT, SIGMA * DT**0.5).cumsum_(1)


def torch_by_time(m, n, dtype, out=None):
    x = (torch.empty(m, n, dtype=dtype) if out is None else out).normal_(MU * DT, SIGMA * DT**0.5)
    for j in range(1, m):
        torch.add(x[j - 1], x[j], out=x[j])
    return x


def torch_on_threads(m, n, dtype, out=None):
    x = torch.empty(m, n, dtype=dtype) if out is None else out
    count = threads.thread_count()

    def fill(columns, seed):
        generator = torch.Generator().manual_seed(seed)
        for tile in columns.split(TILE, dim=1):
            before = 0.0
            for row in tile.unbind():
                before = row.normal_(MU * DT, SIGMA * DT**0.5, generator=generator).add_(before)

    list(POOL.map(fill, x.chunk(count, dim=1), range(count)))
    return x


def numpy_on_threads(m, n, dtype, out=None):
    x = np.empty((m, n), dtype) if out is None else out
    real, count = x.dtype.type, threads.thread_count()

    def fill(columns, seed):
        generator = np.random.Generator(np.random.SFC64(seed))
        for start in range(0, columns.shape[1], TILE):
            before = real(0)
            for row in columns[:, start : start + TILE]:
                generator.standard_normal(out=row, dtype=dtype)
                row *= real(SIGMA * DT**0.5)
                row += real(MU * DT)
                row += before
                before = row

    list(POOL.map(fill, np.array_split(x, count, axis=1), np.random.SeedSequence(7).spawn(count)))
    return x


@pytest.mark.parametrize("memory", ["fresh", "out"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("baseline", [torch_by_path, torch_by_time, torch_on_threads, numpy_on_threads])
def bench_baseline(row, full, baseline, dtype, memory):
    m, n = shape(full)
    by_path = baseline is torch_by_path
    kind = dtype if baseline is numpy_on_threads else getattr(torch, dtype)
    make = np.zeros if baseline is numpy_on_threads else torch.zeros
    out = make((n, m) if by_path else (m, n), dtype=kind) if memory == "out" else None
    check(baseline(m, n, kind, out), 1 if by_path else 0)
    group = f"simulate {dtype} {memory}"
    row(group, baseline.__name__, lambda: baseline(m, n, kind, out), work=(m * n, " normals"), rounds=7)


@pytest.mark.parametrize("memory", ["fresh", "out"])
@pytest.mark.parametrize("dtype", DTYPES)
def bench_fastlam(row, full, dtype, memory):
    m, n = shape(full)
    process = fastlam.Brownian(MU, SIGMA)
    times = torch.arange(1, m + 1, dtype=getattr(torch, dtype)) * DT
    out = torch.zeros(m, n, dtype=times.dtype) if memory == "out" else None
    check_paths(fastlam.simulate(process, times, n, seed=7, out=out), times, dtype)
    limit = ("Philox alone", philox_rate(4 if dtype == "float32" else 2)) if full else None
    row(
        f"simulate {dtype} {memory}",
        "fastlam",
        lambda: fastlam.simulate(process, times, n, seed=7, out=out),
        ours=True,
        work=(m * n, " normals"),
        limit=limit,
    )


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def bench_threads(row, full, dtype, count):
    """Two threads against one."""
    m, n = shape(full)
    times = torch.arange(1, m + 1, dtype=getattr(torch, dtype)) * DT
    out = torch.zeros(m, n, dtype=times.dtype)
    call = lambda: fastlam.simulate(fastlam.Brownian(MU, SIGMA), times, n, seed=7, out=out)  # noqa: E731
    before = threads.thread_count()
    torch.set_num_threads(count)
    try:
        check_paths(call(), times, dtype)
        name = f"{count} thread{'s' * (count > 1)}"
        row(f"simulate {dtype} threads", name, call, ours=count > 1, work=(m * n, " normals"))
    finally:
        torch.set_num_threads(before)
