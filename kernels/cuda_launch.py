"""Kernels for NVIDIA GPUs: assembled on first use, kept, launched on the caller's stream.

No driver is needed until something is launched.
"""

import ctypes
import functools
import re
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from cuda.bindings import nvjitlink

from .cuda_ptx import REMEDY, ptx, with_room
from .launch import once

SHARED = re.compile(r"\.shared \.align \d+ \.b8 \w+\[(\d+)\]")
REGISTER_FILE = 2**16  # of a multiprocessor
LEGACY = 1  # the driver's name for stream 0, by which every cuda.core knows it
WHICH = "GPUs are Turing (sm_75) or newer, and of those that the toolkit's nvJitLink knows"
GROWTH = 1.03  # of code, at most, from one number of blocks to the next

_streams: dict[int, Any] = {}


class _Used(threading.local):
    """Devices that a thread has used."""

    def __init__(self) -> None:
        self.devices: set[int] = set()


_used = _Used()


class Cubin(NamedTuple):
    """Machine code of one kernel, its entry, bytes of shared memory of a block, and what the assembler says of it."""

    code: bytes
    entry: str
    shared: int
    log: str

    def resource(self, pattern: str) -> int:
        """The number that a pattern finds in what the log says of the entry, 0 where it finds none."""
        found = re.search(pattern, self.log.rpartition(f"Function properties for {self.entry}")[2])
        return int(found[1]) if found else 0

    @property
    def registers(self) -> int:
        """How many a thread takes."""
        registers = self.resource(r"Used (\d+) registers")
        if not registers:
            raise RuntimeError(f"the assembler does not say how many registers the kernel takes: {self.log}")
        return registers

    @property
    def spills(self) -> bool:
        """Does anything wait in memory for want of registers?"""
        return self.resource(r"(\d+) bytes stack frame") + self.resource(r"(\d+) bytes spill stores") > 0


@once
def cubin(make: Callable[..., Any], arguments: tuple[Any, ...], threads: int, cc: tuple[int, int]) -> Cubin:
    """Machine code of the kernel that `make(*arguments)` describes, for blocks of so many threads.

    Of the numbers of blocks that shall find room in a multiprocessor, upwards, it is the last for which nothing spills
    and the code hardly grows. To assemble anew takes a tenth of the time that the text took to make.
    """
    text, rooms = ptx(make, arguments)
    arch = f"-arch=sm_{cc[0]}{cc[1]}"
    made = _assembled(with_room(text, threads, 1), arch)
    for blocks in rooms:
        if fitting(made.registers, threads) < blocks:
            tighter = _assembled(with_room(text, threads, blocks), arch)
            had = fitting(tighter.registers, threads) >= blocks  # no GPU has room for more threads than it can have
            if not had or tighter.spills or len(tighter.code) > GROWTH * len(made.code):
                break
            made = tighter
    return made


def fitting(registers: int, threads: int) -> int:
    """How many blocks of so many threads find their registers in a multiprocessor: it gives them by eights."""
    return REGISTER_FILE // (-(-registers // 8) * 8 * threads)


def _assembled(text: str, arch: str) -> Cubin:
    options, code = [arch, "-Xptxas=-v"], text.encode()
    try:
        linker = nvjitlink.create(len(options), options)
    except nvjitlink.nvJitLinkError as error:
        raise RuntimeError(f"no kernel is assembled for {arch} ({error}): {WHICH}") from error
    except RuntimeError as error:  # of cuda.pathfinder, which looks for it
        raise ImportError(f"nvJitLink, the toolkit's assembler, is not found ({error}): {REMEDY}") from error
    try:
        try:
            nvjitlink.add_data(linker, nvjitlink.InputType.PTX, code, len(code), "kernel")
            nvjitlink.complete(linker)
        except nvjitlink.nvJitLinkError as error:
            log = bytearray(nvjitlink.get_error_log_size(linker))
            nvjitlink.get_error_log(linker, log)
            told = log.decode().strip("\0 \n") or str(error)
            raise RuntimeError(f"a kernel is not assembled for {arch}: {told}") from error
        made = bytearray(nvjitlink.get_linked_cubin_size(linker))
        nvjitlink.get_linked_cubin(linker, made)
        log = bytearray(nvjitlink.get_info_log_size(linker))
        nvjitlink.get_info_log(linker, log)
    finally:
        nvjitlink.destroy(linker)
    told = log.decode().strip("\0")
    entry = re.search(r"Compiling entry function '(\w+)'", told)
    if entry is None:
        raise RuntimeError(f"the assembler does not name the kernel: {told}")
    shared = sum(map(int, SHARED.findall(text)))  # of which the assembler says nothing
    return Cubin(bytes(made), entry[1], shared, told)


def launch(
    make: Callable[..., Any], arguments: tuple[Any, ...], device: int, stream: int, grid: Any, threads: int,
    *values: Any,
) -> None:  # fmt: skip
    """Launch the kernel on a stream of the device, which is the active one: values are integers, addresses, floats."""
    import cuda.core as core  # now: it looks for a driver

    if device not in _used.devices:  # a thread that has not used the device has no context
        core.Device(device).set_current()
        _used.devices.add(device)
    kernel = _kernel(make, arguments, threads, device)
    queue = _streams.get(stream)
    if queue is None:
        queue = _streams[stream] = core.Stream.from_handle(stream or LEGACY)
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


def word(number: int) -> Any:
    """A number below 2**64 as a kernel's argument."""
    return ctypes.c_uint64(number)
