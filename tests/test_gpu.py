"""On a card: the bits of the CPU, the caller's stream, capture in a graph. Skipped where there is none."""

import numpy as np
import pytest
import torch
from cuda_cases import FUNCTIONALS, PROCESSES

import fastlam
from fastlam import one_pass, rows
from fastlam.elements import record
from fastlam.stream import Stream

if not torch.cuda.is_available():
    pytest.skip("waits for an NVIDIA GPU", allow_module_level=True)

from fastlam import gpu_paths, gpu_rows

pytestmark = pytest.mark.gpu
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
SEED, TIMES = 2**63 + 7, np.cumsum([0.1, 0.2, 0.15, 0.3, 0.1, 0.2, 0.4])


def same(got, want):
    got = got.cpu().numpy()
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    assert got.tobytes() == want.tobytes()


def double(values):
    return torch.tensor([float(value) for value in values], dtype=torch.float64, device="cuda")


def paths(process, stream, times=TIMES):
    grid = torch.tensor(times, device="cuda")
    out = torch.full((len(times), stream.n_paths), torch.nan, dtype=getattr(torch, stream.real), device="cuda")
    values = double(PROCESSES[process].parameters().values())
    gpu_paths.fill_paths(out, record(PROCESSES[process].handle), grid, values, stream)
    return out


@DTYPES
@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("n", [1, 255, 257, 100_003])
@pytest.mark.parametrize("process", PROCESSES)
def test_paths(process, n, antithetic, dtype):
    stream = Stream(SEED, 2**33 + 2, n, antithetic, dtype)
    named = {"seed": SEED, "first_path": stream.first_path, "antithetic": antithetic, "dtype": dtype}
    same(paths(process, stream), fastlam.simulate(PROCESSES[process], TIMES, n, **named))


@DTYPES
@pytest.mark.parametrize("stderr", [False, True])
@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize(("functional", "wanted"), [("square", ()), ("square", (0, 1, 2)), ("polynomial", (0, 2, 5))])
@pytest.mark.parametrize("process", PROCESSES)
def test_one_pass(process, functional, wanted, antithetic, stderr, dtype):
    dynamics, payoff = record(PROCESSES[process].handle), record(FUNCTIONALS[functional].handle)
    theta = double([*FUNCTIONALS[functional].parameters().values(), *PROCESSES[process].parameters().values()])
    stream = Stream(SEED, 2**33 + 2, 100_002, antithetic, dtype)
    got = gpu_paths.mean_table(dynamics, payoff, theta, wanted, torch.tensor(TIMES, device="cuda"), stream, stderr)
    problem = "simulate_mean", dynamics, payoff, theta.cpu().numpy()
    same(got, one_pass.mean_table(*problem, wanted, TIMES, stream, stderr))


@DTYPES
@pytest.mark.parametrize("shape", [(3, 1), (3, 1025), (2, 3, 70_001), (5, 2_000_003)])
def test_rows(shape, dtype):
    """Aligned rows and others, all and picked, values and gradients."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=getattr(torch, dtype))
    payoff, theta = record(FUNCTIONALS["polynomial"].handle), double(FUNCTIONALS["polynomial"].parameters().values())
    index = torch.tensor([1, 0, 1, -1])
    for view in (x, x[..., 1:] if shape[-1] > 1 else x):
        for picked in (None, index):
            at, there = (None, None) if picked is None else (picked.numpy(), picked.cuda())
            got = gpu_rows.means(view.cuda()[...], payoff, theta, (0, 1), there)
            same(got, rows.array_terms(view.numpy(), payoff, theta.cpu().numpy(), (0, 1), at))
            means = rows.array_means(view.numpy(), at)
            weights = torch.from_numpy(np.random.default_rng(3).standard_normal(means.shape))
            got = gpu_rows.slopes(view.cuda(), weights.cuda(), there, theta[:0])
            same(got, rows.array_slopes(view.numpy(), weights.numpy(), at))


def test_the_callers_stream_and_capture():
    stream = Stream(SEED, 0, 5000, False, "float32")
    want = paths("brownian", stream)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        got = paths("brownian", stream)
    side.synchronize()
    assert torch.equal(got, want)
    dynamics, payoff = record(PROCESSES["brownian"].handle), record(fastlam.Square.handle)
    theta, grid = double(PROCESSES["brownian"].parameters().values()), torch.tensor(TIMES, device="cuda")
    before = gpu_paths.mean_table(dynamics, payoff, theta, (1,), grid, stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        table = gpu_paths.mean_table(dynamics, payoff, theta, (1,), grid, stream)
    table.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(table, before)


def test_positions_outside_and_bad_times_give_nan():
    x = torch.ones(2, 5, device="cuda")
    square, nothing = record(fastlam.Square.handle), double([])
    got = gpu_rows.means(x, square, nothing, (), torch.tensor([0, 2, -3], device="cuda"), "float32")[0]
    assert got[0] == 1
    assert got[1:].isnan().all()
    assert paths("brownian", Stream(1, 0, 3, False, "float32"), [0.1, 0.1, 0.2])[1:].isnan().all()
