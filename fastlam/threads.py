"""Runs a kernel's chunks on several threads: the caller's and those of one pool. Why not prange: CONTRIBUTING.md."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

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
    budget = max(1, int(n_chunks * min(1.0, ANSWER_WITHIN / nanoseconds)))

    def work() -> None:  # holds claims, so that a helper that starts late finds them gone
        while kernel(claims.ctypes.data, n_chunks, budget, *arguments):
            pass

    crew = _Crew()
    try:
        _call_helpers(partial(crew.help, work), min(thread_count(), n_chunks) - 1)
        work()
    except BaseException:
        claims[0] = n_chunks  # helpers stop at their next claim
        raise
    finally:
        crew.dismiss(claims, n_chunks)


class _Crew:
    """The helpers of one call: none may write to the caller's arrays once the call has returned."""

    def __init__(self) -> None:
        self.change = threading.Condition()
        self.open, self.working = True, 0
        self.error: BaseException | None = None

    def help(self, work: Callable[[], None]) -> None:
        """Work, unless the call is over."""
        with self.change:
            if not self.open:
                return
            self.working += 1
        try:
            work()
        except BaseException as error:
            self.error = error
        finally:
            with self.change:
                self.working -= 1
                self.change.notify_all()

    def dismiss(self, claims: np.ndarray, n_chunks: int) -> None:
        """Wait until nobody works, even if interrupted again and again; then raise what befell."""
        interrupt: BaseException | None = None
        while True:
            try:
                with self.change:
                    self.open = False
                    self.change.wait_for(lambda: self.working == 0)
                break
            except BaseException as error:
                interrupt, claims[0] = error, n_chunks
        befell = interrupt or self.error
        if befell is not None:
            raise befell


def _call_helpers(help: Callable[[], None], count: int) -> None:
    global _pool
    if count < 1:
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=max(32, 2 * (os.cpu_count() or 1)), thread_name_prefix="fastlam")
    try:
        for _ in range(count):
            _pool.submit(help)
    except RuntimeError:  # shutting down, or no thread can be had: the caller does it all
        pass


def _drop_pool() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_drop_pool)
