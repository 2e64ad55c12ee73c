"""Threads, forks, workers, exits and Ctrl-C: each scenario in a process of its own, which must end well and in time.

A scenario is a function below; the tests run `python tests/test_threads.py NAME`. The time-out is for hangs alone: most
scenarios take as long as their imports.
"""

import ctypes
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import fastlam
from fastlam import reference, threads

TIME_OUT = 120
N_THREADS = 4  # also on a machine with fewer processors
PROCESS, TIMES, N_PATHS = fastlam.Brownian(mu=0.1, sigma=0.5, x0=1.0), np.arange(1.0, 9.0), 2**16  # enough for helpers


def check(seed=1, dtype="float32", antithetic=False):
    """Simulate and reduce, compare with the reference: a lost or doubled chunk is off by about 1."""
    x = fastlam.simulate(PROCESS, TIMES, N_PATHS, seed=seed, dtype=dtype, antithetic=antithetic)
    exact = reference.simulate(0.1, 0.5, 1.0, TIMES, N_PATHS, seed=seed, dtype=dtype, antithetic=antithetic)
    assert np.abs(x - exact).max() < 1e-4
    np.testing.assert_allclose(fastlam.mean_square(x), reference.mean_square(x), rtol=1e-6)


def check_backward(seed):
    x = torch.randn(8, N_PATHS, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    lam = torch.tensor(0.5, requires_grad=True)
    fastlam.mean_square(x, lam).sum().backward()
    in_x, in_lam = reference.mean_square_grad(x.detach().numpy(), 0.5, np.ones(8))
    np.testing.assert_allclose(x.grad, in_x, rtol=1e-5)
    np.testing.assert_allclose(lam.grad, in_lam.sum(), rtol=1e-5)


def in_python_threads(task, count):
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(task, seed) for seed in range(10 * count)]:
            future.result()


def in_fork(task):
    """Run the task in a forked child and see that it ends well."""
    child = os.fork()
    if child == 0:
        try:
            task()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def python_threads():
    in_python_threads(check, 2)
    in_python_threads(check, 4)


def threads_that_compile():
    """Both ask for the same kernels, not compiled yet, at once."""
    barrier = threading.Barrier(2)

    def task(seed):
        barrier.wait()
        check(dtype="float64")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(task, range(2)))


def fork_after_use():
    check()
    in_fork(check)
    in_fork(lambda: in_fork(check))
    check()


def fork_while_threads_work():
    stop = threading.Event()

    def work():
        while not stop.is_set():
            check()

    check()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work) for _ in range(2)]
        try:
            for _ in range(5):
                in_fork(check)
        finally:
            stop.set()
        for future in futures:
            future.result()


def fork_while_compiling():
    """The child needs the very kernel that the other thread compiles as it is forked."""
    for dtype in ("float32", "float64"):
        for antithetic in (False, True):
            compiling = threading.Thread(target=check, args=(1, dtype, antithetic))
            compiling.start()
            for _ in range(3):
                in_fork(lambda dtype=dtype, antithetic=antithetic: check(2, dtype, antithetic))
                time.sleep(0.05)
            compiling.join()


def spawn_after_use():
    check()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(check, range(2))
    check()


class Paths(torch.utils.data.Dataset):
    """Items that are made by fastlam, in whatever process asks."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        check(seed=i)
        x = torch.from_numpy(fastlam.simulate(PROCESS, TIMES, 1000, seed=i))
        return fastlam.mean_square(x, 0.5)


def data_loader_after_use():
    dataset = Paths()
    expected = torch.stack([dataset[i] for i in range(8)])
    check_backward(1)
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat(list(loader)), expected)
    check()


def backward_in_four_threads():
    in_python_threads(check_backward, 4)


def exit_with_idle_pool():
    check()
    assert threads._helpers  # else nothing is tested


def interrupt_waits_for_helpers():
    """Ctrl-C while only helpers are still at work: whoever gets the exception may free the arrays they write to."""
    done = []

    def kernel(claims, n_chunks, budget):
        if threading.current_thread() is not threading.main_thread():
            time.sleep(1)
            done.append(True)
        else:
            time.sleep(0.1)  # until the helper is at work
        return False

    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        threads.run(kernel, 2, 1e9)
    assert done, "threads.run ended before its helper"


SCENARIOS = [python_threads, threads_that_compile, fork_after_use, fork_while_threads_work,
             fork_while_compiling, spawn_after_use, data_loader_after_use, backward_in_four_threads,
             exit_with_idle_pool, interrupt_waits_for_helpers]  # fmt: skip


def start(name):
    return subprocess.Popen(
        [sys.executable, __file__, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def end(child):
    """Wait for the child and return its standard error; kill it and whatever it forked if it hangs."""
    try:
        return child.communicate(timeout=TIME_OUT)[1]
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        pytest.fail(f"hangs: {child.communicate()[1]}")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(scenario):
    child = start(scenario.__name__)
    errors = end(child)
    assert child.returncode == 0, errors


def endless_row(n_bytes):
    """An array of n bytes whose pages are 64 MiB of memory, mapped again and again, and a last page of its own."""
    libc, piece, page = ctypes.CDLL(None, use_errno=True), 2**26, mmap.PAGESIZE
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    no_reserve, fixed, both = 0x4000, 0x10, mmap.PROT_READ | mmap.PROT_WRITE
    start = libc.mmap(None, n_bytes + page, both, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve, -1, 0)
    file = os.memfd_create("piece")
    os.ftruncate(file, piece)
    for offset in range(0, n_bytes, piece):
        assert libc.mmap(start + offset, piece, both, mmap.MAP_SHARED | fixed, file, 0) == start + offset
    return np.frombuffer((ctypes.c_char * (n_bytes + page)).from_address(start), np.float32)


def long_simulation():
    """128 GiB of paths, half a minute's work, in 64 MiB of memory; interrupted, it leaves the last paths untouched."""
    check()
    out = endless_row(2**37)[np.newaxis]
    print("simulating", flush=True)
    with pytest.raises(KeyboardInterrupt):
        fastlam.simulate(PROCESS, np.ones(1), out.size, seed=1, dtype="float32", out=out)
    assert out[0, -1] == 0, "simulate came to its end first"
    check()


def test_interrupt():
    child = start("long_simulation")
    child.stdout.readline()
    time.sleep(0.3)  # into the kernels; were it too early, the interrupt would come before them and be answered too
    child.send_signal(signal.SIGINT)
    errors = end(child)
    assert child.returncode == 0, errors


if __name__ == "__main__":
    torch.set_num_threads(N_THREADS)
    globals()[sys.argv[1]]()
