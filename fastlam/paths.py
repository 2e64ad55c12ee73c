"""Simulate paths and store them: the public function checks, allocates and launches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from fastlam import arrays, autograd, parameters, rows, threads
from fastlam.devices import gpu_part
from fastlam.elements import Dynamics, record
from fastlam.kernels import cpu
from fastlam.kernels.launch import compiled
from fastlam.one_pass import PATH_NANOSECONDS, step_coefficients
from fastlam.processes import Process, check_process
from fastlam.stream import Stream, check_times, stream, time_grid

FEWER = "take fewer paths or times, or slices of the family by first_path"  # what to do where memory does not suffice
TOUCH_BYTES = 2**23  # answers from which on new memory is cleared by all threads first
CLEAR_NANOSECONDS = 0.1  # per byte, on one core


@autograd.outside_graphs
def simulate(
    process: Process,
    times: Any,
    n_paths: int,
    *,
    seed: int,
    dtype: Any = None,
    first_path: int = 0,
    antithetic: bool = False,
    out: Any = None,
) -> Any:
    """Draw paths of a diffusion at the given times.

    Path `i` of the answer is path `first_path + i` of the endless family that `seed` names: more paths or more times
    keep every old value, and slices of the family made apart are the same bits as together.

    Parameters
    ----------
    process : Process
        The diffusion, `Brownian` or one's own; it starts in `process.x0` at time 0.
    times : array or tensor, shape (m,)
        Strictly increasing, `times[0] >= 0`; float32, float64 or integer. The answer is of its kind, where it is: on a
        GPU for CUDA tensors and CuPy arrays, of which bad values give NaN (README, "On a GPU").
    n_paths : int
        Number of paths n.
    seed : int
        In [0, 2**64).
    dtype : dtype, optional
        float32 or float64; by default that of `times`, float32 for integers.
    first_path : int
        Number of the first path in the family; `first_path + n_paths <= 2**64`.
    antithetic : bool
        Path 2q + 1 of the family has path 2q's noise negated.
    out : array or tensor, shape (m, n), optional
        Filled and returned, of the kind of `times` and of `dtype`; each row contiguous.

    Returns
    -------
    array or tensor, shape (m, n)
        Time-major, paths contiguous.

    Raises
    ------
    TypeError, ValueError
        Bad arguments, named.
    MemoryError
        The answer does not fit; raised before anything is allocated.

    Examples
    --------
    >>> import fastlam, numpy as np
    >>> x = fastlam.simulate(fastlam.Brownian(mu=0.05, sigma=0.2), np.arange(1, 5) / 4, n_paths=3, seed=7)
    >>> x.shape, x.dtype
    ((4, 3), dtype('float64'))
    >>> process = fastlam.Brownian(mu=0.05, sigma=0.2)
    >>> more = fastlam.simulate(process, np.arange(1, 5) / 4, n_paths=2, seed=7, first_path=1)
    >>> bool((more == x[:, 1:]).all())
    True

    Source: the stream is Philox4x32-10 (Salmon et al., SC'11) under Box-Muller; README, "The stream".
    """
    check_process("simulate", process)
    check_times("simulate", times)
    which = stream("simulate", seed, first_path, n_paths, antithetic, dtype, times)
    if out is not None:
        _check_out(out, times, (times.shape[0], which.n_paths), which.real)
    out = (_on_gpu if arrays.on_gpu(times) else _on_cpu)(process, times, which, out)
    if isinstance(out, torch.Tensor) and not out.is_inference():
        torch.autograd.graph.increment_version(out)  # as any operation in place: graphs that saved it must know
    return out


def _on_cpu(process: Process, times: Any, which: Stream, out: Any) -> Any:
    grid, shape = time_grid("simulate", times), (times.shape[0], which.n_paths)
    dynamics: Dynamics = record(process.handle)
    *values, x0 = parameters.floats("simulate", process.parameters(), dynamics)
    coefficients = step_coefficients("simulate", dynamics, grid, np.array(values), which.real)
    if out is None:
        arrays.check_memory(math.prod(shape) * np.dtype(which.real).itemsize, "simulate", FEWER)
        paths = _new_array(shape, which.real)
        out = torch.from_numpy(paths) if isinstance(times, torch.Tensor) else paths
    else:
        paths = arrays.host_array(out, "simulate: out")
    _fill_paths(paths, dynamics, coefficients, x0, which)
    return out


def _on_gpu(process: Process, times: Any, which: Stream, out: Any) -> Any:
    paths, gpu = (gpu_part(part, "simulate: times") for part in ("gpu_paths", "gpu"))
    named, dynamics = process.parameters(), record(process.handle)
    parameters.check_untracked("simulate", named)
    named = {name: _unwrapped(value, f"simulate: {name}") for name, value in named.items()}
    times = _unwrapped(times, "simulate: times")
    with torch._C._DisableFuncTorch(), arrays.active(times):  # a transform would wrap what is made here
        if isinstance(times, torch.Tensor):
            values = parameters.vector("simulate", tuple(named), tuple(named.values()), times.device).detach()
        else:
            values = gpu.numbers(times, parameters.floats("simulate", named, dynamics, "a CuPy array"))
        if out is None:
            out = gpu.empty(times, (times.shape[0], which.n_paths), which.real, "simulate", FEWER)
        paths.fill_paths(out, dynamics, paths.time_grid(times), values, which)
    return out


def _unwrapped(value: Any, name: str) -> Any:
    return arrays.unwrapped(value, name) if isinstance(value, torch.Tensor) else value


def _new_array(shape: tuple[int, int], real: str) -> np.ndarray:
    """An array whose memory the threads have had cleared together, if it is large."""
    array = np.empty(shape, real)
    if array.nbytes >= TOUCH_BYTES and threads.thread_count() > 1:
        nanoseconds = array.nbytes * CLEAR_NANOSECONDS
        threads.run(
            compiled(cpu.make_touch), threads.thread_count(), nanoseconds, array.ctypes.data, array.nbytes, owners=array
        )
    return array


def _fill_paths(paths: np.ndarray, dynamics: Dynamics, coefficients: np.ndarray, x0: float, which: Stream) -> None:
    m, n = paths.shape
    work = PATH_NANOSECONDS[which.real] * m
    share = min(n // (4 * threads.thread_count()), int(threads.ANSWER_WITHIN / work))
    width = min(cpu.TILE, max(64, share // 64 * 64))
    kernel = compiled(
        cpu.make_simulate, dynamics.step, dynamics.observe, dynamics.n_coefficients, which.real, which.antithetic
    )
    threads.run(kernel, -(-n // width), work * n,
                paths.ctypes.data, paths.strides[0] // paths.itemsize, m, n, width,
                which.first_path, *which.key, x0, coefficients.ctypes.data,
                owners=(paths, coefficients))  # fmt: skip


def _check_out(out: Any, times: Any, shape: tuple[int, int], real: str) -> None:
    """Raise unless paths can be written to `out`: of the kind of `times`, beside it, its rows apart."""
    kind = arrays.kind(out, "simulate: out")
    if kind != arrays.kind(times, "simulate: times"):
        raise TypeError("simulate: out and times must be of one kind, both NumPy, both torch or both CuPy")
    if tuple(out.shape) != shape or arrays.dtype_name(out) != real:
        raise ValueError(
            f"simulate: out must have shape {shape} and dtype {real}, but has {tuple(out.shape)} and "
            f"{arrays.dtype_name(out)}"
        )
    if kind == "torch":
        _check_tensor_out(out)
    if kind != "numpy" and out.device != times.device:
        raise ValueError(f"simulate: times is on {times.device}, but out is on {out.device}")
    if arrays.on_gpu(times):
        on = gpu_part("gpu", "simulate: out").framework(out)
        step, last = on.strides(out)
        whole = (last == 1 or shape[1] == 1) and on.address(out) % out.itemsize == 0
    else:
        paths = arrays.host_array(out, "simulate: out")
        if not paths.flags.writeable:
            raise ValueError("simulate: out is read-only")
        step, whole = paths.strides[0] // paths.itemsize, rows.readable(paths)
    if not whole or (step < shape[1] and shape[0] > 1):
        raise ValueError("simulate: out must have contiguous, aligned rows in native byte order that do not overlap")


def _check_tensor_out(out: torch.Tensor) -> None:
    if out.requires_grad:
        raise ValueError("simulate: out requires grad, but is written in place: pass out.detach()")
    if out.is_meta or out.is_neg():
        where = "is on meta, where tensors have no memory" if out.is_meta else "is a view that negates its memory"
        raise ValueError(f"simulate: out {where}: pass a tensor that can be written in place")
