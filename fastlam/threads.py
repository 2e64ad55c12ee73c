"""Runs a kernel's chunks on several threads: the caller's and those of one pool. Why not prange: CONTRIBUTING.md."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
import torch

ALONE_BELOW = 200_000  # nanoseconds of work under which waking a helper costs more than it brings
ANSWER_WITHIN = 50_000_000  # nanoseconds between two looks at signals: Ctrl-C is answered in this time

_pool: ThreadPoolExecutor | None = None


def thread_count() -> int:
    """Number of threads that kernels use: torch's, so 1 in a DataLoader worker; `torch.set_num_threads` changes it."""
    return torch.get_num_threads()


def run(kernel: Callable[..., bool], n_chunks: int, nanoseconds: float, *arguments: object) -> None:
    """Call `kernel(claims, n_chunks, budget, *arguments)` until its chunks are done.

    `nanoseconds` is a guess of the whole work on one thread: it decides whether helpers are worth waking.
    """
    if nanoseconds < ALONE_BELOW:
        kernel(0, n_chunks, n_chunks, *arguments)
        return
    claims = np.zeros(1, np.int64)
    counter = claims.ctypes.data
    budget = max(1, int(n_chunks * min(1.0, ANSWER_WITHIN / nanoseconds)))

    def work() -> None:
        while kernel(counter, n_chunks, budget, *arguments):
            pass

    futures: list[Future[None]] = []
    interrupt: BaseException | None = None
    try:
        _call_helpers(work, min(thread_count(), n_chunks) - 1, futures)
        work()
    except BaseException as error:
        interrupt = error
    while True:  # until helpers have ended, even if interrupted again: they write to the caller's arrays
        try:
            if interrupt is not None:
                claims[0] = n_chunks  # helpers stop at their next claim
            wait([future for future in futures if not future.cancel()])
            break
        except BaseException as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
    for future in futures:
        if not future.cancelled():
            future.result()


def _call_helpers(work: Callable[[], None], count: int, futures: list[Future[None]]) -> None:
    """Add to `futures` one by one, so that an interrupt loses none."""
    global _pool
    if count < 1:
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=max(32, 2 * (os.cpu_count() or 1)), thread_name_prefix="fastlam")
    try:
        for _ in range(count):
            futures.append(_pool.submit(work))
    except RuntimeError:  # the interpreter is shutting down: the caller does it all
        pass


def _drop_pool() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_drop_pool)
