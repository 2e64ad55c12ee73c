"""Arrays of CuPy: their memory, and the stream that their work goes to.

The names of on_torch.py, and `beside`.
"""

from __future__ import annotations

from typing import Any

import cupy

OutOfMemory = cupy.cuda.memory.OutOfMemoryError


def device(x: Any) -> int:
    """Number of the GPU that x is on."""
    number: int = x.device.id
    return number


def active() -> int:
    """Number of the active GPU."""
    number: int = cupy.cuda.runtime.getDevice()
    return number


def activated(number: int) -> Any:
    """A block in which this GPU is the active one."""
    return cupy.cuda.Device(number)


def stream(number: int) -> int:
    """Handle of the stream that CuPy works on on the active GPU, which `number` is."""
    handle: int = cupy.cuda.get_current_stream().ptr
    return handle


def memory(x: Any) -> Any:
    """An array with these values, whose memory holds them: itself."""
    return x


def address(x: Any) -> int:
    """Where its first element is."""
    place: int = x.data.ptr
    return place


def strides(x: Any) -> tuple[int, ...]:
    """In elements."""
    return tuple(stride // x.itemsize for stride in x.strides)


def contiguous(x: Any) -> Any:
    """Copied, unless each element comes after the one before it."""
    with x.device:
        return cupy.ascontiguousarray(x)


def cast(x: Any, dtype: str) -> Any:
    """In the dtype of this name, contiguous."""
    with x.device:
        return cupy.ascontiguousarray(x, dtype)


def empty(like: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """New memory beside an array."""
    with like.device:
        return cupy.empty(shape, dtype)


def beside(like: Any, array: Any) -> Any:
    """An array of any kind as CuPy's, on the GPU that another is on."""
    with like.device:
        return cupy.asarray(array)


def concatenated(parts: list[Any]) -> Any:
    """Parts one after the other, along their first axis."""
    return cupy.concatenate(parts)


def wait(x: Any) -> None:
    """Wait for what the stream has to do."""
    with x.device:
        cupy.cuda.get_current_stream().synchronize()


def free_bytes(number: int) -> int:
    """What can still be had of the GPU's memory, what CuPy keeps for later included."""
    with cupy.cuda.Device(number):
        free: int = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
        return free
