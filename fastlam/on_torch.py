"""Tensors of torch on a GPU: their memory, and the stream that their work goes to.

The names of on_cupy.py, but its `beside`.
"""

from __future__ import annotations

import torch

OutOfMemory = torch.OutOfMemoryError


device = torch.Tensor.get_device  # number of the GPU that a tensor is on


def active() -> int:
    """Number of the active GPU."""
    return torch.cuda.current_device()


def activated(number: int) -> torch.cuda.device:
    """A block in which this GPU is the active one."""
    return torch.cuda.device(number)


def stream(number: int) -> int:
    """Handle of the stream that torch works on there."""
    handle: int = torch._C._cuda_getCurrentRawStream(number)  # as torch's own compiler asks: a hundredth of the time
    return handle


def memory(x: torch.Tensor) -> torch.Tensor:
    """A tensor with these values, whose memory holds them."""
    return torch.zeros_like(x) if x._is_zerotensor() else x.resolve_neg() if x.is_neg() else x


address = torch.Tensor.data_ptr  # where a tensor's first element is
strides = torch.Tensor.stride  # in elements
contiguous = torch.Tensor.contiguous  # copied, unless each element comes after the one before it


def cast(x: torch.Tensor, dtype: str) -> torch.Tensor:
    """In the dtype of this name, contiguous."""
    return x.to(getattr(torch, dtype)).contiguous()


def empty(like: torch.Tensor, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    """New memory beside a tensor."""
    return torch.empty(shape, dtype=getattr(torch, dtype), device=like.device)


def concatenated(parts: list[torch.Tensor]) -> torch.Tensor:
    """Parts one after the other, along their first axis."""
    return torch.cat(parts)


def wait(x: torch.Tensor) -> None:
    """Wait for what the stream has to do."""
    torch.cuda.current_stream(x.device).synchronize()


def free_bytes(number: int) -> int:
    """What can still be had of the GPU's memory, what torch keeps for later included."""
    kept = torch.cuda.memory_reserved(number) - torch.cuda.memory_allocated(number)
    free: int = torch.cuda.mem_get_info(number)[0] + kept
    return free
