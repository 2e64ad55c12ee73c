"""Runs a kernel's chunks on several threads: the caller's and helpers' that stay. Why not prange: CONTRIBUTING.md."""

from __future__ import annotations

import _thread
import contextlib
import os
from collections.abc import Callable
from queue import Empty, SimpleQueue

import numpy as np
import torch

from fastlam.kernels.memory import STOP

ALONE_BELOW = 200_000  # nanoseconds of work under which waking a helper costs more than it brings
ANSWER_WITHIN = 50_000_000  # nanoseconds between two looks at signals: Ctrl-C is answered in this time


def thread_count() -> int:
    """Number of threads that kernels use: torch's, so 1 in a DataLoader worker; `torch.set_num_threads` changes it."""
    return torch.get_num_threads()


def run(
    kernel: Callable[..., bool], n_chunks: int, nanoseconds: float, *arguments: object, owners: object = None
) -> None:
    """Call `kernel(claims, n_chunks, budget, *arguments)` until its chunks are done.

    `nanoseconds` is a guess of the whole work on one thread: it decides whether helpers are worth waking. `owners` are
    the arrays behind the addresses in `arguments`: they live until the last helper has left, whatever is raised here.
    """
    if nanoseconds < ALONE_BELOW:
        kernel(0, n_chunks, n_chunks, *arguments)
        return
    job = _Job(kernel, n_chunks, nanoseconds, arguments, owners)
    error: BaseException | None = None
    count = min(thread_count(), n_chunks)
    try:
        if nanoseconds > ANSWER_WITHIN * n_chunks and _call_helpers(job, count):
            job.watch()  # a chunk is long: the caller is left to answer signals
        else:
            _call_helpers(job, count - 1)
            job.work()
    except BaseException as caught:
        error = caught
    while True:  # however often it is interrupted: helpers write to the caller's arrays
        try:
            job.close(error is not None)
            break
        except BaseException as caught:
            error = caught
    error = error or next(iter(job.errors), None)
    if error is not None:
        raise error


class _Job:
    """What helpers do and all that they touch. No lock of Python's: an exception at any point leaves none held."""

    def __init__(
        self,
        kernel: Callable[..., bool],
        n_chunks: int,
        nanoseconds: float,
        arguments: tuple[object, ...],
        owners: object,
    ) -> None:
        self.kernel, self.n_chunks, self.owners = kernel, n_chunks, owners
        self.claims = np.zeros(1, np.int64)
        budget = max(1, int(n_chunks * min(1.0, ANSWER_WITHIN / nanoseconds)))
        self.arguments = (self.claims.ctypes.data, n_chunks, budget, *arguments)
        self.closed = False
        self.entered: list[None] = []
        self.left: list[None] = []
        self.errors: list[BaseException] = []
        self.bell: SimpleQueue[None] = SimpleQueue()

    def work(self) -> None:
        """Claim chunks until they are gone."""
        while self.kernel(*self.arguments):
            pass

    def watch(self) -> None:
        """Wait until helpers have done it all, or one of them has failed."""
        while not self.errors and (self.claims[0] < self.n_chunks or len(self.left) < len(self.entered)):
            with contextlib.suppress(Empty):
                self.bell.get(timeout=0.05)

    def help(self) -> None:
        """Work, unless the call is over."""
        self.entered.append(None)
        try:
            if not self.closed:
                self.work()
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.left.append(None)
            self.bell.put(None)

    def close(self, stop: bool) -> None:
        """Let nobody in any more, and wait for those who are."""
        self.closed = True
        if stop:
            self.claims[0] = STOP
        while len(self.left) < len(self.entered):
            with contextlib.suppress(Empty):
                self.bell.get(timeout=0.05)


_jobs: SimpleQueue[_Job] = SimpleQueue()
_helpers: list[int] = []


def _serve(jobs: SimpleQueue[_Job]) -> None:
    while True:
        jobs.get().help()


def _call_helpers(job: _Job, count: int) -> int:
    """Ask `count` helpers to the job, or as many as can be had; return their number.

    A queue and threads without locks of Python's.
    """
    with contextlib.suppress(RuntimeError):  # no thread can be had: the caller does more
        while len(_helpers) < count:
            _helpers.append(_thread.start_new_thread(_serve, (_jobs,)))
    called = min(count, len(_helpers))
    for _ in range(called):
        _jobs.put(job)
    return called


def _forget_helpers() -> None:
    """A child after fork has none of its parent's threads."""
    global _jobs
    _jobs = SimpleQueue()
    _helpers.clear()


os.register_at_fork(after_in_child=_forget_helpers)
