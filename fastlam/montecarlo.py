"""Simulate paths, reduce them: the public functions check, allocate and launch."""

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
from fastlam.processes import Brownian, Process
from fastlam.stream import Stream, check_times, path_dtype, stream, time_grid

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
    if not isinstance(process, Process):
        raise TypeError(f"simulate: process must be a diffusion such as fastlam.Brownian, but is {process!r}")
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


def mean_square(x: Any, lam: Any = 1.0, *, index: Any = None) -> Any:
    """`lam` times the mean over paths of `x**2`, fused, for each leading position of `x`.

    Parameters
    ----------
    x : array or tensor, shape (..., n)
        float32 or float64, any layout; the last axis is reduced. Read in place where its rows are contiguous, else
        copied a few megabytes at a time (on a GPU whole). NaN and infinity flow through. CuPy's arrays are no tensors:
        their answer carries no gradient.
    lam : float, array or tensor
        A scalar, or of a shape that broadcasts to the answer's.
    index : integer array or tensor, optional
        Rows of the first axis to reduce, as `x[index]` without its copy; repeats and negative positions allowed. On a
        GPU, where nobody waits for its values, a position outside of x gives NaN.

    Returns
    -------
    array or tensor, shape (...,) or index.shape + (...)
        Of the kind and dtype of `x`. The mean is accumulated in float64 over a fixed tree (the same bits for any
        number of threads), rounded once to the dtype of `x`, then multiplied by `lam`. For tensors: differentiable
        twice in `x` and in `lam`.

    Raises
    ------
    TypeError, ValueError, IndexError
        Bad arguments, named.

    Examples
    --------
    >>> import fastlam, torch
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> lam = torch.tensor(0.5, requires_grad=True)
    >>> fastlam.mean_square(x, lam)
    tensor([1.2500, 6.2500], grad_fn=<MulBackward0>)
    >>> fastlam.mean_square(x, lam, index=torch.tensor([1])).backward()
    >>> lam.grad
    tensor(12.5000)

    Source: README, "The promises"; fastlam.reference.mean_square is its specification.
    """
    if arrays.kind(x, "mean_square: x") == "torch":
        return autograd.mean_square(x, lam, index)
    with arrays.active(x):
        return times_lam(lam, _square_means(x, index, "mean_square"), "mean_square")


def mean_square_value_and_grad(x: Any, lam: Any = 1.0, *, index: Any = None) -> tuple[Any, Any]:
    """`mean_square(x, lam)` and its derivative in `lam`, without autograd: for loops that need no graph.

    Parameters
    ----------
    x, lam, index
        As in `mean_square`.

    Returns
    -------
    (value, grad)
        Both of the shape, kind and dtype of `mean_square(x, lam, index=index)`: `grad` is the mean of `x**2`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `mean_square`.
    NotImplementedError
        A derivative of either, asked for by a transform of `torch.func` or by forward mode.

    Examples
    --------
    >>> import fastlam, numpy as np
    >>> fastlam.mean_square_value_and_grad(np.array([[1.0, 2.0]]), lam=2.0)
    (array([5.]), array([2.5]))
    """
    caller = "mean_square_value_and_grad"
    if arrays.kind(x, f"{caller}: x") == "torch":
        return autograd.mean_square_value_and_grad(x, lam, index)
    with arrays.active(x):
        mean = _square_means(x, index, caller)
        return times_lam(lam, mean, caller), mean[()]


def _square_means(x: Any, index: Any, caller: str) -> Any:
    """Means of x**2 over the last axis of an array, NumPy's or CuPy's, in its dtype."""
    rows.check_rows(x, caller)
    if not arrays.on_gpu(x):
        return rows.array_means(x, index, arrays.dtype_name(x), caller)
    part = gpu_part("gpu_rows", f"{caller}: x")
    return part.square_means(x, part.positions(x, index, caller))


def times_lam(lam: Any, mean: Any, caller: str) -> Any:
    """`lam` times means that are rounded already, in their dtype; beyond it infinite, without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):  # as a tensor's
        return check_lam(lam, mean, caller) * mean


def check_lam(lam: Any, mean: Any, caller: str) -> Any:
    """`lam` in the dtype of `mean`, of a shape that leaves the answer's alone; with CuPy's means one of CuPy's."""
    real = arrays.dtype_name(mean)
    if type(lam) is float:
        return arrays.rounded(lam, real)[()]
    if arrays.is_cupy(mean):
        from fastlam import on_cupy  # now: CuPy is imported where the user did

        return on_cupy.beside(mean, arrays.fit_lam(_cupy_lam(lam, mean, real, caller), mean.shape, caller))
    lam = arrays.lam_array(lam, real, caller, "an array of the kind of x (NumPy)")
    return arrays.fit_lam(lam, mean.shape, caller)


def _cupy_lam(lam: Any, mean: Any, real: str, caller: str) -> Any:
    if not arrays.is_cupy(lam):
        return arrays.lam_array(lam, real, caller, "an array of the kind of x (CuPy)")
    if lam.device != mean.device:
        raise ValueError(f"{caller}: x is on {mean.device}, but lam is on {lam.device}")
    arrays.check_lam_dtype(lam, caller)
    return lam.astype(real)


def warmup(dtypes: Any = arrays.FLOATS) -> None:
    """Compile the kernels of `mean_square`, and of `simulate` for `Brownian`, now and not on their first use.

    That takes some ten to fifteen seconds for both dtypes. Other processes, and the kernels of one pass, are compiled
    on their own first use: a call with `n_paths=1` does it.

    Parameters
    ----------
    dtypes : dtype, or tuple or list of them
        float32, float64 or both, as NumPy's, torch's or text.

    Raises
    ------
    TypeError
        Another dtype, or none.

    Examples
    --------
    >>> import fastlam
    >>> fastlam.warmup(dtypes=("float32",))
    """
    several = dtypes if isinstance(dtypes, (tuple, list)) else (dtypes,)
    if not several or not all(isinstance(dtype, (str, type, np.dtype, torch.dtype)) for dtype in several):
        raise TypeError(f"warmup: dtypes must be float32, float64 or both, but is {dtypes!r}")
    for real in [path_dtype("warmup", dtype, None) for dtype in several]:
        for antithetic in (False, True):
            simulate(Brownian(), np.ones(1, real), 1, seed=0, antithetic=antithetic)
        rows.warmup(real)
