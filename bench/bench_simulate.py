"""Paths of a Brownian motion, (m, n) = (256, 65536), on an even grid (all that the baselines can do as fast).

Baselines: torch, filling paths-by-times in one call and summing along the contiguous axis in place (its fastest layout)
and time-major with a running sum; NumPy with its fastest generator on as many
threads. "fresh" allocates its answer; "out" is given one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import fastlam
from bench.limits import philox_rate
from fastlam import reference, threads

MU, SIGMA, DT = 0.05, 0.2, 1 / 250
POOL = ThreadPoolExecutor()
DTYPES = ["float32", "float64"]


def shape(full):
    return (256, 65536) if full else (16, 2048)


def check(x, axis):
    """Mean and variance of the last time, at five standard errors."""
    last = np.asarray(x).take(-1, axis=axis).astype(np.float64)
    t = DT * np.shape(x)[axis]
    assert abs(last.mean() - MU * t) < 5 * SIGMA * np.sqrt(t / last.size)
    assert abs(last.var() / (SIGMA**2 * t) - 1) < 5 * np.sqrt(2 / last.size)


def torch_by_path(m, n, dtype, out=None):
    x = torch.empty(n, m, dtype=dtype) if out is None else out
    return x.normal_(MU * DT, SIGMA * DT**0.5).cumsum_(1)


def torch_by_time(m, n, dtype, out=None):
    x = (torch.empty(m, n, dtype=dtype) if out is None else out).normal_(MU * DT, SIGMA * DT**0.5)
    for j in range(1, m):
        torch.add(x[j - 1], x[j], out=x[j])
    return x


def numpy_by_time(m, n, dtype, out=None):
    """Each thread draws some of the rows; then each sums some of the columns."""
    x = np.empty((m, n), dtype) if out is None else out
    real, count = x.dtype.type, threads.thread_count()
    generators = [np.random.Generator(np.random.SFC64(s)) for s in np.random.SeedSequence(7).spawn(count)]

    def draw(part):
        rows = x[part * m // count : (part + 1) * m // count]
        generators[part].standard_normal(out=rows, dtype=dtype)
        rows *= real(SIGMA * DT**0.5)
        rows += real(MU * DT)

    def add(part):
        columns = x[:, part * n // count : (part + 1) * n // count]
        for j in range(1, m):
            columns[j] += columns[j - 1]

    list(POOL.map(draw, range(count)))
    list(POOL.map(add, range(count)))
    return x


@pytest.mark.parametrize("memory", ["fresh", "out"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("baseline", [torch_by_path, torch_by_time, numpy_by_time])
def bench_baseline(row, full, baseline, dtype, memory):
    m, n = shape(full)
    by_path = baseline is torch_by_path
    kind = dtype if baseline is numpy_by_time else getattr(torch, dtype)
    make = np.zeros if baseline is numpy_by_time else torch.zeros
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
    x = fastlam.simulate(process, times, n, seed=7, out=out)
    check(x, 0)
    exact = reference.simulate(MU, SIGMA, 0.0, times, 5, seed=7, dtype=dtype)
    np.testing.assert_allclose(x[:, :5], exact, rtol=0, atol=1e-5)  # float32 steps round; a wrong one is 1e-2 off
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
    before = threads.thread_count()
    torch.set_num_threads(count)
    try:
        row(
            f"simulate {dtype} threads",
            f"{count} thread{'s' * (count > 1)}",
            lambda: fastlam.simulate(fastlam.Brownian(MU, SIGMA), times, n, seed=7, out=out),
            ours=count > 1,
            work=(m * n, " normals"),
        )
    finally:
        torch.set_num_threads(before)
