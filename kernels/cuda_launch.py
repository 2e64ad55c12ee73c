"""Compile kernels for NVIDIA GPUs on first use, keep them, launch them on the caller's stream.

numba gives LTO-IR, and nvJitLink makes it a cubin with contraction off (`-fma=0`): a product and a sum are fused where
`fma` says so and nowhere else, whatever elements users write. No driver is needed until something is launched.
"""

import ctypes
import functools
import re
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from cuda.bindings import nvjitlink
from numba import TypingError

from .cuda import cuda
from .launch import once, refusal

try:
    from numba.cuda.core.errors import TypingError as CudaTypingError
except ImportError:  # where numba-cuda raises numba's own
    CudaTypingError = TypingError

REMEDY = 'pip install "fastlam[cuda13]" (or [cuda12]), or set CUDA_HOME to a CUDA toolkit that has nvvm/'
OLDEST = (7, 5)  # LTO-IR for it does for all that came after

_streams: dict[int, Any] = {}
_thread = threading.local()


class Cubin(NamedTuple):
    """Machine code of one kernel, its entry, and what the assembler says of it."""

    code: bytes
    entry: str
    log: str

    def resource(self, pattern: str) -> int:
        """The number that a pattern finds in the log, 0 where it finds none."""
        found = re.search(pattern, self.log)
        return int(found[1]) if found else 0

    @property
    def registers(self) -> int:
        """How many a thread takes."""
        return self.resource(r"Used (\d+) registers")

    @property
    def spills(self) -> bool:
        """Does anything wait in memory for want of registers?"""
        return self.resource(r"(\d+) bytes stack frame") + self.resource(r"(\d+) bytes spill stores") > 0


@once
def cubin(make: Callable[..., Any], arguments: tuple[Any, ...], threads: int, cc: tuple[int, int]) -> Cubin:
    """Machine code of the kernel that `make(*arguments)` describes, for blocks of so many threads.

    Of the limits on registers that the kernel names, downwards, it is the last with which nothing spills. To link anew
    takes a tenth of the time that the code took to make.
    """
    code, limits = _code(make, arguments, threads)
    arch = f"-arch=sm_{cc[0]}{cc[1]}"
    made = _linked(code, arch)
    for limit in limits:
        if made.registers > limit:
            fewer = _linked(code, arch, f"-maxrregcount={limit}")
            if fewer.spills:
                break
            made = fewer
    return made


@once
def _code(make: Callable[..., Any], arguments: tuple[Any, ...], threads: int) -> tuple[bytes, tuple[int, ...]]:
    """LTO-IR, and the limits on registers."""
    function, signature, *limits = make(*arguments)
    bounds = None if limits else (threads, 1)  # with bounds the assembler hears of no limit
    named = {"cc": OLDEST, "device": False, "abi": "numba", "output": "ltoir", "launch_bounds": bounds}
    try:
        code: bytes = cuda.compile(function, signature, **named)[0]
    except (TypingError, CudaTypingError) as error:
        raise TypeError(refusal(arguments, str(error))) from error
    except ImportError as error:
        raise ImportError(f"numba-cuda does not find NVVM, the toolkit's compiler ({error}): {REMEDY}") from error
    return code, tuple(limits)


def _linked(code: bytes, arch: str, *further: str) -> Cubin:
    options = [arch, "-lto", "-fma=0", "-Xptxas=-v", *further]
    try:
        linker = nvjitlink.create(len(options), options)
    except RuntimeError as error:  # of cuda.pathfinder, which looks for it
        raise ImportError(f"nvJitLink, the toolkit's linker, is not found ({error}): {REMEDY}") from error
    try:
        nvjitlink.add_data(linker, nvjitlink.InputType.LTOIR, code, len(code), "kernel")
        try:
            nvjitlink.complete(linker)
        except nvjitlink.nvJitLinkError as error:
            log = bytearray(nvjitlink.get_error_log_size(linker))
            nvjitlink.get_error_log(linker, log)
            raise RuntimeError(f"a kernel does not link for {arch}: {log.decode().strip(chr(0))}") from error
        made = bytearray(nvjitlink.get_linked_cubin_size(linker))
        nvjitlink.get_linked_cubin(linker, made)
        log = bytearray(nvjitlink.get_info_log_size(linker))
        nvjitlink.get_info_log(linker, log)
    finally:
        nvjitlink.destroy(linker)
    text = log.decode().strip("\0")
    entry = re.search(r"Compiling entry function '(\w+)'", text)
    if entry is None:
        raise RuntimeError(f"the assembler does not name the kernel: {text}")
    return Cubin(bytes(made), entry[1], text)


def launch(
    make: Callable[..., Any], arguments: tuple[Any, ...], device: int, stream: int, grid: Any, threads: int,
    *values: Any,
) -> None:  # fmt: skip
    """Launch the kernel on a stream of the device, which is the active one: values are integers, addresses, floats."""
    import cuda.core as core  # now: it looks for a driver

    if device not in _seen():  # a thread that has not used the device has no context
        core.Device(device).set_current()
        _seen().add(device)
    kernel = _kernel(make, arguments, threads, device)
    queue = _streams.get(stream)
    if queue is None:
        queue = _streams[stream] = core.Stream.from_handle(stream) if stream else core.LEGACY_DEFAULT_STREAM
    core.launch(queue, _config(grid, threads), kernel, *values)


@functools.lru_cache(maxsize=1024)
def _config(grid: Any, threads: int) -> Any:
    import cuda.core as core

    return core.LaunchConfig(grid=grid, block=threads)


@once
def _kernel(make: Callable[..., Any], arguments: tuple[Any, ...], threads: int, device: int) -> Any:
    import cuda.core as core

    capability = core.Device(device).compute_capability
    made = cubin(make, arguments, threads, (capability.major, capability.minor))
    return core.ObjectCode.from_cubin(made.code).get_kernel(made.entry)


def _seen() -> set[int]:
    seen: set[int] = getattr(_thread, "devices", set())
    _thread.devices = seen
    return seen


def word(number: int) -> Any:
    """A number below 2**64 as a kernel's argument."""
    return ctypes.c_uint64(number)
