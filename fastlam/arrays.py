"""What kind of array is this, may it be used here, and does the answer fit in memory? Asked once, with the errors."""

from __future__ import annotations

import math
import operator
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.ma import MaskedArray  # now: numpy imports it on first use, and a fork during an import hangs

from fastlam.control_groups import memory_left

FLOATS = ("float32", "float64")
WHOSE = {"numpy": "NumPy", "cupy": "CuPy"}
_COMMON = (*FLOATS, "int32", "int64")
_NUMPYS = {np.dtype(name): name for name in _COMMON}  # which takes microseconds to name a dtype
_TORCHS = {getattr(torch, name): name for name in _COMMON}  # apart: torch.compile takes no dtypes of NumPy as keys


def kind(array: Any, name: str) -> str:
    """Return "numpy", "torch" or "cupy", whose array this is; raise TypeError for what fastlam cannot take.

    Parameters
    ----------
    array : object
        What the user passed.
    name : str
        Function and argument, for the message: "simulate: times".
    """
    if isinstance(array, torch.Tensor):
        check_dense(array, name)
        if not (array.is_cpu or array.is_cuda or array.is_meta):
            raise TypeError(
                f"{name} is on {array.device}, but must be on the CPU or on an NVIDIA GPU: pass {_tail(name)}.cpu()"
            )
        return "torch"
    if isinstance(array, np.ndarray):
        check_unmasked(array, name)
        if array.dtype.hasobject:
            raise TypeError(f"{name} has dtype object, but must be float32 or float64")
        return "numpy"
    if is_cupy(array):
        return "cupy"
    remedy = f": pass np.asarray({_tail(name)})" if isinstance(array, (list, tuple)) else ""
    raise TypeError(
        f"{name} must be a NumPy array, a torch tensor or a CuPy array, but is {type(array).__name__}{remedy}"
    )


def is_cupy(array: Any) -> bool:
    """Is this an array of CuPy, which is imported only where the user did?"""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(array, cupy.ndarray)


def on_gpu(array: Any) -> bool:
    """Is this array, of an accepted kind, in the memory of a GPU?"""
    return array.is_cuda if isinstance(array, torch.Tensor) else not isinstance(array, np.ndarray)


def active(array: Any) -> Any:
    """A block in which the GPU of a CuPy array is the active one, as CuPy's operators want it; else nothing."""
    return array.device if is_cupy(array) else nullcontext()


def host_array(array: Any, name: str) -> np.ndarray:
    """An array of any kind as NumPy's, copied where it is on a GPU."""
    which = kind(array, name)
    if which == "cupy":
        copied: np.ndarray = array.get()
        return copied
    return array_of(array, name) if which == "torch" else array


def check_dense(tensor: torch.Tensor, name: str) -> None:
    """Raise TypeError for a tensor that is not one block of equal rows."""
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} has layout {tensor.layout}, but must be a dense tensor: pass {_tail(name)}.to_dense()")
    if tensor.is_nested:
        raise TypeError(f"{name} is a nested tensor, but must be a dense one")


def check_unmasked(array: Any, name: str) -> None:
    """Raise TypeError for a masked array, whose mask would be lost."""
    if isinstance(array, MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost: pass {_tail(name)}.filled() or .compressed()"
        )


def unwrapped(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """The tensor itself, where transforms of torch.func are at work on others.

    TypeError, of the function and argument `name`, for what a transform follows.
    """
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor) and not _followed(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        raise TypeError(
            f"{name} is followed by a transform of torch.func, of which nothing goes through here: "
            f"pass a tensor from outside of the transform"
        )
    return tensor


def array_of(tensor: torch.Tensor, name: str = "tensor") -> np.ndarray:
    """The tensor's memory as a NumPy array, or its copy from a GPU; errors as of `unwrapped`."""
    tensor = unwrapped(tensor, name)
    check_dense(tensor, name)
    if tensor.is_meta:
        raise ValueError(f"{name} is on meta, where tensors have no values")
    with torch._C._DisableFuncTorch():  # which would wrap what detach returns
        try:
            array: np.ndarray = tensor.detach().resolve_conj().resolve_neg().cpu().numpy()
        except TypeError:
            raise TypeError(f"{name} has dtype {dtype_name(tensor)}, which NumPy does not know") from None
    return array


def _followed(wrapped: torch.Tensor) -> bool:
    """Does a transform know this tensor as more than a constant? What is made inside of one is wrapped too.

    Of forward mode nobody tells, where transforms are nested.
    """
    stack = torch._C._functorch.get_interpreter_stack() or []
    forward = any(level.key() == torch._C._functorch.TransformType.Jvp for level in stack)
    return wrapped.requires_grad or forward or not torch._C._functorch.is_gradtrackingtensor(wrapped)


def check_beside(tensor: torch.Tensor, x: torch.Tensor, name: str, caller: str) -> None:
    """Raise unless the tensor `name` is dense and where x is; a scalar on the CPU goes anywhere."""
    check_dense(tensor, f"{caller}: {name}")
    if tensor.device != x.device and not (tensor.is_cpu and tensor.ndim == 0):
        raise ValueError(f"{caller}: x is on {x.device}, but {name} is on {tensor.device}")


def _tail(name: str) -> str:
    return name.rsplit(" ", 1)[-1]


def dtype_name(array: Any) -> str:
    """'float32' for NumPy's and torch's float32 alike, whatever the byte order."""
    dtype = array.dtype
    if isinstance(dtype, torch.dtype):
        return _TORCHS.get(dtype) or str(dtype).removeprefix("torch.")
    return _NUMPYS.get(dtype) or str(dtype.name)


def check_float(array: Any, name: str) -> str:
    """Return the array's dtype by name; raise TypeError unless it is float32 or float64."""
    dtype = dtype_name(array)
    if dtype not in FLOATS:
        raise TypeError(f"{name} has dtype {dtype}, but must be float32 or float64")
    return dtype


def check_integer(value: Any, name: str, low: int, high: int) -> int:
    """Return `value` as an int in [low, high); NumPy integers are welcome, bool and float are not."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, but is {value!r}") from None
    if not low <= number < high:
        raise ValueError(f"{name} must be at least {low} and below {_power(high)}, but is {number}")
    return number


def _power(number: int) -> str:
    return f"2**{number.bit_length() - 1}" if number.bit_count() == 1 and number > 2**16 else str(number)


def available_memory() -> int:
    """Bytes that can still be had: the least of what the system and the control groups leave."""
    free = [2**62]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    except OSError:
        free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return max(0, min(free + memory_left()))


def check_memory(n_bytes: int, name: str, remedy: str) -> None:
    """Raise MemoryError, before anything is allocated, if `n_bytes` cannot be had."""
    free = available_memory()
    if n_bytes > free:
        raise MemoryError(f"{name} needs {n_bytes / 1e9:,.1f} GB, but {free / 1e9:,.1f} GB are available: {remedy}")


def check_lam_type(lam: Any, caller: str, kinds: str) -> Any:
    """`lam`, a float for an int; raise TypeError or ValueError unless it is a number or a NumPy array."""
    if isinstance(lam, int) and not isinstance(lam, bool):
        if abs(lam) > sys.float_info.max:
            raise ValueError(f"{caller}: lam must be below 1.8e308 in size, but has {lam.bit_length()} bits")
        return float(lam)
    if isinstance(lam, bool) or not isinstance(lam, (float, np.number, np.ndarray)):
        raise TypeError(f"{caller}: lam must be a number or {kinds}, but is {type(lam).__name__}")
    check_unmasked(lam, f"{caller}: lam")
    return lam


def lam_array(lam: Any, real: str, caller: str, kinds: str) -> np.ndarray:
    """A number or NumPy array as a new array of dtype `real`."""
    array = np.asarray(check_lam_type(lam, caller, kinds))
    check_lam_dtype(array, caller)
    return rounded(array, real)


def rounded(values: Any, real: str) -> np.ndarray:
    """Numbers as a new array of dtype `real`: infinite beyond it, without a warning, as a tensor's."""
    with np.errstate(over="ignore"):
        return np.array(values, real)


def check_lam_dtype(lam: Any, caller: str) -> None:
    """Raise TypeError unless the dtype of this array or tensor is a float or an integer."""
    dtype = dtype_name(lam)
    if not dtype.startswith(("float", "bfloat", "int", "uint")):
        raise TypeError(f"{caller}: lam has dtype {dtype}, but must be real")


def fit_lam(lam: Any, answer: tuple[int, ...], caller: str) -> Any:
    """`lam`, one element as a scalar; raise ValueError unless its shape leaves the answer's as it is."""
    if math.prod(lam.shape) == 1:
        return lam.reshape(())
    fits = lam.ndim <= len(answer) and all(a in (1, b) for a, b in zip(lam.shape[::-1], answer[::-1], strict=False))
    if not fits:
        raise ValueError(
            f"{caller}: lam has shape {tuple(lam.shape)}, which does not broadcast to the answer's {tuple(answer)}"
        )
    return lam
