"""lam * mean(x**2) over simulated paths in one pass, none stored: (m, n) = (256, 65536). Baselines: bench/peers.py."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import fastlam
from bench.limits import philox_rate
from bench.peers import jax_scan, numpy_on_threads, torch_chunks, torch_on_threads
from bench.processes import DT, LAM, MU, PROCESSES, SIGMA, X0
from fastlam import threads

DTYPES = ["float32", "float64"]


def shape(full):
    return (256, 65536) if full else (16, 4096)


def grid(m, dtype="float32"):
    return torch.arange(1, m + 1, dtype=getattr(torch, dtype)) * DT


def check(mean, n):
    """Mean of x**2 of a Brownian motion from 0, at five standard errors."""
    t = DT * np.arange(1, len(mean) + 1)
    square, variance = (MU * t) ** 2, SIGMA**2 * t
    error = np.sqrt((2 * variance**2 + 4 * square * variance) / n)
    assert (abs(np.asarray(mean) - square - variance) < 5 * error).all()


def check_paths(k, process, times, n):
    """The same bits as over stored paths."""
    assert torch.equal(k, fastlam.mean_square(fastlam.simulate(process, times, n, seed=7), LAM))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("baseline", [torch_chunks, torch_on_threads, numpy_on_threads, jax_scan])
def bench_baseline(row, full, baseline, dtype):
    if baseline is jax_scan and dtype == "float64":
        pytest.skip("JAX has float64 by a switch for the whole process")
    m, n = shape(full)
    check(baseline(m, n, dtype), n)
    call = lambda: baseline(m, n, dtype)  # noqa: E731
    row(f"simulate_mean_square {dtype}", baseline.__name__, call, work=(m * n, " normals"), rounds=7)


@pytest.mark.parametrize("dtype", DTYPES)
def bench_fastlam(row, full, dtype):
    m, n = shape(full)
    times, process = grid(m, dtype), fastlam.Brownian(MU, SIGMA)
    call = lambda: fastlam.simulate_mean_square(process, times, n, LAM, seed=7)  # noqa: E731
    check(call() / LAM, n)
    check_paths(call(), process, times, n)
    limit = ("Philox alone", philox_rate(4 if dtype == "float32" else 2)) if full else None
    row(f"simulate_mean_square {dtype}", "fastlam", call, ours=True, work=(m * n, " normals"), limit=limit)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ["simulate into out", "simulate_mean_square"])
def bench_beside_simulate(row, full, function, dtype):
    """One pass does more than `simulate`, and writes less."""
    m, n = shape(full)
    times, process = grid(m, dtype), fastlam.Brownian(MU, SIGMA)
    out = torch.zeros(m, n, dtype=times.dtype)
    ours = function == "simulate_mean_square"

    def call():
        if ours:
            return fastlam.simulate_mean_square(process, times, n, LAM, seed=7)
        return fastlam.simulate(process, times, n, seed=7, out=out)

    check_paths(call() if ours else fastlam.mean_square(call(), LAM), process, times, n)
    row(f"simulate_mean_square beside simulate {dtype}", function, call, ours=ours, work=(m * n, " normals"))


def gradients(name, times, n):
    """(call, parameters): forward + backward in lam and every parameter of the process."""
    make, values = PROCESSES[name]
    parameters = {key: torch.tensor(value, requires_grad=True) for key, value in values.items()}
    lam = torch.tensor(LAM, requires_grad=True)
    weight = torch.ones(len(times))

    def call():
        for parameter in (lam, *parameters.values()):
            parameter.grad = None
        fastlam.simulate_mean_square(make(**parameters), times, n, lam, seed=7).backward(weight)

    return call, {"lam": lam, **parameters}


def check_gradients(parameters, times, n):
    """Against stored paths x0 + mu t + sigma W of the same W, to the rounding of float32 paths."""
    w = fastlam.simulate(fastlam.Brownian(0.0, 1.0), times.double(), n, seed=7, dtype="float32").double()
    t = times.double()[:, None]
    x = X0 + MU * t + SIGMA * w
    slopes = {"lam": x * x, "mu": 2 * LAM * x * t, "sigma": 2 * LAM * x * w, "x0": 2 * LAM * x}
    for name, slope in slopes.items():
        torch.testing.assert_close(parameters[name].grad.double(), slope.mean(1).sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("what", ["forward", "forward + backward in lam, mu, sigma, x0"])
def bench_gradients(row, full, what):
    """The ratio is that of the forward pass alone to both: 0.625 is 1.6 times its time."""
    m, n = shape(full)
    times = grid(m)
    process = fastlam.Brownian(MU, SIGMA, X0)
    ours = what != "forward"
    call, parameters = gradients("Brownian", times, n)
    if ours:
        call()
        check_gradients(parameters, times, n)
    else:
        call = lambda: fastlam.simulate_mean_square(process, times, n, LAM, seed=7)  # noqa: E731
        check_paths(call(), process, times, n)
    row("simulate_mean_square and gradients", what, call, ours=ours, work=(m * n, " normals"))


@pytest.mark.parametrize("name", PROCESSES)
def bench_processes(row, full, name):
    """Each beside Brownian motion."""
    m, n = shape(full)
    times, (make, values) = grid(m), PROCESSES[name]
    process = make(**values)
    call = lambda: fastlam.simulate_mean_square(process, times, n, LAM, seed=7)  # noqa: E731
    check_paths(call(), process, times, n)
    row("simulate_mean_square by process", name, call, ours=name != "Brownian", work=(m * n, " normals"))


@pytest.mark.parametrize("name", ["Brownian", "Diffusion"])
def bench_processes_backward(row, full, name):
    """The expression beside the element by hand."""
    m, n = shape(full)
    times = grid(m)
    call, parameters = gradients(name, times, n)
    call()
    check_gradients(parameters, times, n)
    group = "simulate_mean_square by process, forward + backward"
    row(group, name, call, ours=name != "Brownian", work=(m * n, " normals"))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def bench_threads(row, full, dtype, count):
    """Two threads against one."""
    m, n = shape(full)
    times, process = grid(m, dtype), fastlam.Brownian(MU, SIGMA)
    call = lambda: fastlam.simulate_mean_square(process, times, n, LAM, seed=7)  # noqa: E731
    before = threads.thread_count()
    torch.set_num_threads(count)
    try:
        check_paths(call(), process, times, n)
        name = f"{count} thread{'s' * (count > 1)}"
        row(f"simulate_mean_square {dtype} threads", name, call, ours=count > 1, work=(m * n, " normals"))
    finally:
        torch.set_num_threads(before)


MEMORY = f"""
import re, sys
from pathlib import Path
import torch, fastlam

def status(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = status("VmRSS")
times = torch.arange(1, 257) * {DT!r}
k = fastlam.simulate_mean_square(fastlam.Brownian({MU}, {SIGMA}), times, int(sys.argv[1]), seed=7)
print(status("VmHWM") - before, *k.tolist())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="waits for another way to read a process's peak of memory")
def bench_memory(row, full, benchmark):
    """Peak of a process above its imports, kernels compiled in it; its time is that of the whole process."""
    n = 10**8 if full else 10**6
    peaks = []

    def call(n):
        done = subprocess.run([sys.executable, "-c", MEMORY, str(n)], capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        peak, *k = map(float, done.stdout.split())
        check(k, n)
        assert peak < 200e6
        peaks.append(peak)

    call(10**5)
    row("simulate_mean_square memory", f"n = {n:,}, m = 256", lambda: call(n), rounds=1)
    benchmark.extra_info["rate"] = f"peak of {peaks[-1] / 1e6:.0f} MB"
