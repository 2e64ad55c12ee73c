"""Every launch of a kernel of fastlam's, seen where it is made: named in NVTX, timed on the card and on the host."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from bench.card.clock import HostClock
from fastlam.kernels import cuda_launch


class Launch(NamedTuple):
    """One launch: marks before and after it on the card's stream, and seconds of the host."""

    make: Any
    arguments: tuple[Any, ...]
    threads: int
    device: int
    start: Any
    end: Any
    host: float

    @property
    def name(self) -> str:
        """The kernel's, without what makes it: `make_simulate` makes `simulate`."""
        return str(self.make.__name__).removeprefix("make_")


class Launches:
    """What `fastlam.kernels.cuda_launch.launch` is asked for while `watched`, by a clock."""

    def __init__(self, clock: HostClock):
        self._clock = clock

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[Launch]]:
        """Launches of this block, those of autograd's own threads included."""
        launch = cuda_launch.launch
        signature = inspect.signature(launch)
        launches: list[Launch] = []

        def seen(*values: Any, **named: Any) -> None:
            asked = signature.bind(*values, **named).arguments
            what = {key: asked[key] for key in ("make", "arguments", "threads", "device")}
            one = Launch(**what, start=self._clock.mark(), end=None, host=0.0)
            with self._clock.named(one.name):
                before = time.perf_counter()
                launch(*values, **named)
                host = time.perf_counter() - before
            launches.append(one._replace(end=self._clock.mark(), host=host))

        cuda_launch.launch = seen
        try:
            yield launches
        finally:
            cuda_launch.launch = launch


class Kernel(NamedTuple):
    """A kernel over several calls of the public function: medians of its seconds, and of a launch's on the host."""

    launch: Launch
    launches: int
    seconds: float
    host: float


def kernels(calls: list[list[Launch]], between: Callable[[Any, Any], float]) -> list[Kernel]:
    """The kernels of calls that launch the same, the longest first; `between` gives the seconds of two marks.

    >>> one = Launch(print, (), 32, 0, start=1.0, end=3.0, host=1e-6)
    >>> [(k.launch.name, k.launches, k.seconds) for k in kernels([[one, one], [one, one]], lambda a, b: b - a)]
    [('print', 2, 4.0)]
    """
    found: dict[Any, list[list[Launch]]] = {}
    for call in calls:
        mine: dict[Any, list[Launch]] = {}
        for launch in call:
            mine.setdefault((launch.make, launch.arguments, launch.threads), []).append(launch)
        for key, launches in mine.items():
            found.setdefault(key, []).append(launches)
    answer = [
        Kernel(
            launches[0][0],
            len(launches[0]),
            float(np.median([sum(between(one.start, one.end) for one in call) for call in launches])),
            float(np.median([one.host for call in launches for one in call])),
        )
        for launches in found.values()
    ]
    return sorted(answer, key=lambda kernel: -kernel.seconds)


def resources(launch: Launch) -> dict[str, int]:
    """Registers, bytes of shared memory and spilled bytes of a kernel, as the assembler says."""
    capability = torch.cuda.get_device_capability(launch.device) if torch.cuda.is_available() else (9, 0)
    made = cuda_launch.cubin(launch.make, launch.arguments, launch.threads, capability)
    return {
        "registers": made.registers,
        "shared": made.shared,
        "spills": made.resource(r"(\d+) bytes spill stores") + made.resource(r"(\d+) bytes spill loads"),
    }


def warps(launch: Launch) -> tuple[int, int]:
    """(warps of the kernel that a multiprocessor holds at once, warps that it could hold), as the driver says."""
    import cuda.core as core  # now: it looks for a driver

    properties = torch.cuda.get_device_properties(launch.device)
    made = cuda_launch.cubin(launch.make, launch.arguments, launch.threads, (properties.major, properties.minor))
    kernel = core.ObjectCode.from_cubin(made.code).get_kernel(made.entry)
    blocks = kernel.occupancy.max_active_blocks_per_multiprocessor(launch.threads, 0)
    return blocks * launch.threads // 32, properties.max_threads_per_multi_processor // 32
