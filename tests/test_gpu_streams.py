"""On a card: the caller's stream and device, graphs, other threads, compiled code, CuPy."""

import threading

import numpy as np
import pytest
import torch
from gpu_cases import SEED, TIMES, cuda, require_a_gpu, same

import fastlam
from bench.card.graph import captured

require_a_gpu()

pytestmark = pytest.mark.gpu
N = 100_003
PROCESS = fastlam.Brownian(0.1, 0.3, 1.0)
SECOND = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="waits for a second GPU")


def everything(times, lam):
    """A call of each kernel: paths, means, gradients, one pass."""
    x = fastlam.simulate(PROCESS, times, N, seed=SEED)
    x.requires_grad_()
    k = fastlam.mean_square(x, lam)
    (slopes,) = torch.autograd.grad(k.sum(), x)
    sigma = torch.full_like(lam.detach(), 0.3).requires_grad_()
    one = fastlam.simulate_mean_square(fastlam.Brownian(0.1, sigma, 1.0), times[:1], N, lam, seed=SEED)
    (slope,) = torch.autograd.grad(one.sum(), sigma)
    moment = fastlam.mean(fastlam.Polynomial([0, 1, 2]), x.detach())
    return x.detach(), k.detach(), slopes, one.detach(), slope, moment


@pytest.fixture(scope="module")
def want():
    return everything(torch.tensor(TIMES), torch.tensor(0.25, dtype=torch.float64))


@pytest.fixture
def given():
    return cuda(TIMES), torch.tensor(0.25, dtype=torch.float64, device="cuda")


def all_same(got, want):
    for a, b in zip(got, want, strict=True):
        same(a, b)


def test_a_stream_of_the_callers(given, want):
    """Work waits in its stream for what was put there before it, and nowhere else."""
    everything(*given)  # compiled, which takes longer than what follows
    side, times = torch.cuda.Stream(), torch.zeros(len(TIMES), dtype=torch.float64, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)  # a tenth of a second, in which another stream would read zeros
        times.copy_(given[0])
        got = everything(times, given[1])
    side.synchronize()
    all_same(got, want)


def test_nothing_waits_for_the_gpu(given):
    everything(*given)  # compiled
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        everything(*given)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_graph(given, want):
    """Captured, replayed on other values of the same memory."""
    times, lam = given
    graph, got = captured(lambda: everything(times, lam))
    times.add_(1)
    graph.replay()
    all_same(got[:1], [fastlam.simulate(PROCESS, TIMES + 1, N, seed=SEED)])
    times.copy_(cuda(TIMES))
    graph.replay()
    torch.cuda.synchronize()
    all_same(got, want)


def test_training_step_in_a_graph():
    """A whole step of an optimizer."""
    x = torch.randn(32, 1000, device="cuda")
    k, model = (x.double() ** 2).mean(1).float() * 0.25, fastlam.LambdaModel().cuda()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, capturable=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.mse_loss(model(x), k).backward()
        optimizer.step()

    graph, _ = captured(step)
    for _ in range(300):
        graph.replay()
    assert abs(model.lam.item() - 0.25) < 1e-3


@SECOND
def test_a_device_that_is_not_the_active_one(want):
    times, lam = torch.tensor(TIMES, device="cuda:1"), torch.tensor(0.25, dtype=torch.float64, device="cuda:1")
    assert torch.cuda.current_device() == 0
    got = everything(times, lam)
    assert all(tensor.device.index == 1 for tensor in got)
    all_same(got, want)


def test_python_threads(given, want):
    """Several at once, each on a stream of its own, as on the first use of every kernel."""
    answers = {}

    def work(number):
        with torch.cuda.stream(torch.cuda.Stream()) as stream:
            answers[number] = everything(*given)
            torch.cuda.current_stream().synchronize()
        return stream

    torch.cuda.synchronize()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got in answers.values():
        all_same(got, want)
    assert len(answers) == 4


def test_compiled(given, want):
    """torch.compile sees ops: forward and backward, in x and in parameters."""

    @torch.compile(fullgraph=True)
    def loss(x, lam, times, sigma):
        k = fastlam.mean_square(x, lam)
        one = fastlam.simulate_mean_square(fastlam.Brownian(0.1, sigma, 1.0), times, N, lam, seed=SEED)
        return k, one

    x, sigma = want[0].cuda().requires_grad_(), torch.full_like(given[1], 0.3).requires_grad_()
    k, one = loss(x, given[1], given[0][:1], sigma)
    slopes, slope = torch.autograd.grad(k.sum() + one.sum(), (x, sigma))
    for a, b in zip((k, slopes, one, slope), want[1:5], strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-14, atol=0)  # torch's own code may multiply in another order


def test_cupy(given, want):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    times = cupy.asarray(TIMES)
    cupy.cuda.Device().synchronize()  # the stream below waits for none
    with cupy.cuda.Stream(non_blocking=True) as stream:
        x = fastlam.simulate(PROCESS, times, N, seed=SEED)
        k = fastlam.mean_square(x, 0.25)
        one, stderr = fastlam.simulate_mean_square(PROCESS, times, N, 0.25, seed=SEED, return_stderr=True)
        moment = fastlam.mean(fastlam.Polynomial([0, 1, 2]), x)
        picked = fastlam.mean_square(x, cupy.asarray([0.5, 1.0]), index=cupy.asarray([1, 0]))
        value, grad = fastlam.mean_square_value_and_grad(x, 2.0, index=np.array([3]))
    stream.synchronize()
    assert all(isinstance(array, cupy.ndarray) for array in (x, k, one, stderr, moment, picked, value, grad))
    stored = want[0].numpy()
    pairs = [
        (x, stored), (k, want[1].numpy()), (moment, want[5].numpy()),
        (one, fastlam.simulate_mean_square(PROCESS, TIMES, N, 0.25, seed=SEED)),
        (picked, fastlam.mean_square(stored, np.array([0.5, 1.0]), index=[1, 0])),
        (value, fastlam.mean_square(stored, 2.0, index=[3])), (grad, fastlam.mean_square(stored, index=[3])),
    ]  # fmt: skip
    for got, expected in pairs:
        np.testing.assert_array_equal(got.get(), expected, strict=True)
    out = cupy.zeros((len(TIMES), N + 5))
    fastlam.simulate(PROCESS, times, N, seed=SEED, out=out[:, 5:])
    np.testing.assert_array_equal(out[:, 5:].get(), stored)
    assert fastlam.fit(x, k).lam == fastlam.fit(stored, k.get()).lam


@SECOND
def test_cupy_on_a_device_that_is_not_the_active_one():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    with cupy.cuda.Device(1):
        times, lam = cupy.asarray(TIMES), cupy.asarray(0.25)
    x = fastlam.simulate(PROCESS, times, N, seed=SEED)
    k = fastlam.mean_square(x, lam)
    one, stderr = fastlam.simulate_mean_square(PROCESS, times, N, lam, seed=SEED, return_stderr=True)
    assert [array.device.id for array in (x, k, one, stderr)] == [1] * 4
    np.testing.assert_array_equal(k.get(), fastlam.mean_square(fastlam.simulate(PROCESS, TIMES, N, seed=SEED), 0.25))
    np.testing.assert_array_equal(k.get(), one.get())
