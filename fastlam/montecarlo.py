"""Simulate paths, reduce them: the public functions check, allocate and launch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastlam import arrays, threads
from fastlam.kernels import cpu
from fastlam.kernels.launch import compiled
from fastlam.kernels.square import add_square, square
from fastlam.processes import Process

PATH_NANOSECONDS = {"float32": 0.8, "float64": 2.1}  # per normal on one core, for the choice of threads
READ_NANOSECONDS = {"float32": 0.15, "float64": 0.3}  # per element on one core
SLAB_BYTES = 2**22  # how much of an input in an unusual layout is copied at a time


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
    process : Brownian
        The diffusion; it starts in `process.x0` at time 0.
    times : array or tensor, shape (m,)
        Strictly increasing, `times[0] >= 0`; float32, float64 or integer. The answer is of its kind.
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
    >>> more = fastlam.simulate(fastlam.Brownian(mu=0.05, sigma=0.2), np.arange(1, 5) / 4, n_paths=2, seed=7, first_path=1)
    >>> bool((more == x[:, 1:]).all())
    True

    Source: the stream is Philox4x32-10 (Salmon et al., SC'11) under Box-Muller; README, "The stream".
    """
    if not isinstance(process, Process):
        raise TypeError(f"simulate: process must be a diffusion such as fastlam.Brownian, but is {process!r}")
    torch_like = arrays.is_torch(times, "simulate: times")
    grid = _time_grid(times)
    n = arrays.check_integer(n_paths, "simulate: n_paths", 1, 2**62)
    seed = arrays.check_integer(seed, "simulate: seed", 0, 2**64)
    first = arrays.check_integer(first_path, "simulate: first_path", 0, 2**64 - n + 1)
    if not isinstance(antithetic, (bool, np.bool_)):
        raise TypeError(f"simulate: antithetic must be True or False, but is {antithetic!r}")
    real = _path_dtype(dtype, times)
    if out is None:
        size = len(grid) * n * np.dtype(real).itemsize
        arrays.check_memory(size, "simulate", "take fewer paths or times, or slices of the family by first_path")
        out = np.empty((len(grid), n), real)
        paths = out
        if torch_like:
            import torch

            out = torch.from_numpy(out)
    else:
        paths = _check_out(out, torch_like, (len(grid), n), real)
    _fill_paths(paths, process, grid, seed, first, bool(antithetic))
    return out


def _fill_paths(
    paths: np.ndarray, process: Process, grid: np.ndarray, seed: int, first_path: int, antithetic: bool
) -> None:
    m, n = paths.shape
    real = paths.dtype.name
    steps = np.diff(grid, prepend=0.0)
    coefficients = np.ascontiguousarray(process.coefficients(steps), real)
    width = min(cpu.TILE, max(64, n // (4 * threads.thread_count()) // 64 * 64))
    kernel = compiled(cpu.make_simulate, process.step, process.n_coefficients, real, antithetic)
    threads.run(kernel, -(-n // width), cpu.SIMULATE_SCRATCH_BYTES, PATH_NANOSECONDS[real] * m * n,
                paths.ctypes.data, paths.strides[0] // paths.itemsize, m, n, width,
                first_path, seed % 2**32, seed >> 32, process.x0, coefficients.ctypes.data)  # fmt: skip


def _time_grid(times: Any) -> np.ndarray:
    """`times` as float64, checked."""
    if getattr(times, "requires_grad", False):
        raise TypeError("simulate: times requires grad, but paths carry no gradient in it: pass times.detach()")
    kind = arrays.dtype_name(times)
    if kind not in arrays.FLOATS and not kind.startswith(("int", "uint")):
        raise TypeError(f"simulate: times has dtype {kind}, but must be float32, float64 or an integer type")
    if times.ndim != 1 or times.shape[0] == 0:
        raise ValueError(f"simulate: times must be 1-D with at least one time, but has shape {tuple(times.shape)}")
    grid = np.asarray(times).astype(np.float64)
    for j in np.flatnonzero(~np.isfinite(grid))[:1]:
        raise ValueError(f"simulate: times must be finite, but times[{j}] = {grid[j]}")
    if grid[0] < 0:
        raise ValueError(f"simulate: times must be at least 0, but times[0] = {grid[0]}")
    for j in np.flatnonzero(np.diff(grid) <= 0)[:1] + 1:
        raise ValueError(
            f"simulate: times must be strictly increasing, but times[{j}] = {grid[j]} comes after "
            f"times[{j - 1}] = {grid[j - 1]}"
        )
    return grid


def _path_dtype(dtype: Any, times: Any) -> str:
    if dtype is None:
        kind = arrays.dtype_name(times)
        return kind if kind in arrays.FLOATS else "float32"
    try:
        kind = np.dtype(str(dtype).removeprefix("torch.") if str(dtype).startswith("torch.") else dtype).name
    except TypeError:
        kind = str(dtype)
    if kind not in arrays.FLOATS:
        raise TypeError(f"simulate: dtype must be float32 or float64, but is {dtype}")
    return kind


def _check_out(out: Any, torch_like: bool, shape: tuple[int, int], real: str) -> np.ndarray:
    if arrays.is_torch(out, "simulate: out") != torch_like:
        raise TypeError("simulate: out and times must be of one kind, both NumPy or both torch")
    if tuple(out.shape) != shape or arrays.dtype_name(out) != real:
        raise ValueError(
            f"simulate: out must have shape {shape} and dtype {real}, but has {tuple(out.shape)} and "
            f"{arrays.dtype_name(out)}"
        )
    if getattr(out, "requires_grad", False):
        raise ValueError("simulate: out requires grad, but is written in place: pass out.detach()")
    paths = np.asarray(out)
    if not paths.flags.writeable:
        raise ValueError("simulate: out is read-only")
    rows = paths.strides[0] >= shape[1] * paths.itemsize or shape[0] == 1
    if not (_kernel_ready(paths) and rows):
        raise ValueError("simulate: out must have contiguous, aligned rows in native byte order that do not overlap")
    return paths


def _kernel_ready(x: np.ndarray) -> bool:
    """Can a kernel read rows of x in place?"""
    contiguous = x.strides[-1] == x.itemsize or x.shape[-1] == 1
    return contiguous and x.flags.aligned and x.dtype.isnative and all(s % x.itemsize == 0 for s in x.strides[:-1])


def mean_square(x: Any, lam: Any = 1.0, *, index: Any = None) -> Any:
    """`lam` times the mean over paths of `x**2`, fused, for each leading position of `x`.

    Parameters
    ----------
    x : array or tensor, shape (..., n)
        float32 or float64, any layout; the last axis is reduced. Read in place where its rows are contiguous, else
        copied a few megabytes at a time. NaN and infinity flow through.
    lam : float, array or tensor
        A scalar, or of a shape that broadcasts to the answer's.
    index : integer array or tensor, optional
        Rows of the first axis to reduce, as `x[index]` without its copy; repeats and negative positions allowed.

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
    if arrays.is_torch(x, "mean_square: x"):
        from fastlam import autograd  # autograd imports this module

        return autograd.mean_square(x, lam, index)
    mean = row_means(x, index).astype(arrays.dtype_name(x))
    return (_check_lam(lam, mean) * mean)[()]


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

    Examples
    --------
    >>> import fastlam, numpy as np
    >>> fastlam.mean_square_value_and_grad(np.array([[1.0, 2.0]]), lam=2.0)
    (array([5.]), array([2.5]))
    """
    if arrays.is_torch(x, "mean_square_value_and_grad: x"):
        from fastlam import autograd

        return autograd.mean_square_value_and_grad(x, lam, index)
    mean = row_means(x, index).astype(arrays.dtype_name(x))
    return (_check_lam(lam, mean) * mean)[()], mean[()]


def _check_lam(lam: Any, mean: np.ndarray) -> np.ndarray:
    """`lam` in the dtype of `mean`, of a shape that leaves the answer's alone."""
    if type(lam) is not float:
        if not isinstance(lam, (int, np.number, np.ndarray)) or isinstance(lam, bool):
            raise TypeError(
                f"mean_square: lam must be a number or an array of the kind of x (NumPy), but is {type(lam).__name__}"
            )
        lam = np.asarray(lam)
        if lam.dtype.kind not in "iuf":
            raise TypeError(f"mean_square: lam has dtype {lam.dtype}, but must be real")
        lam = lam.reshape(()) if lam.size == 1 else lam
        check_lam_shape(lam.shape, mean.shape)
    return np.asarray(lam, mean.dtype)


def check_lam_shape(lam: tuple[int, ...], answer: tuple[int, ...]) -> None:
    """Raise ValueError unless `lam`'s shape broadcasts to the answer's and leaves it as it is."""
    fits = len(lam) <= len(answer) and all(a in (1, b) for a, b in zip(lam[::-1], answer[::-1], strict=False))
    if not fits:
        raise ValueError(
            f"mean_square: lam has shape {tuple(lam)}, which does not broadcast to the answer's {tuple(answer)}"
        )


def row_means(x: np.ndarray, index: Any = None) -> np.ndarray:
    """Mean of x**2 over the last axis, in float64, of shape `index.shape + x.shape[1:-1]` or `x.shape[:-1]`."""
    real = check_rows(x)
    rows = None if index is None else check_index(index, x.shape)
    if not _kernel_ready(x):
        return _slab_means(x, rows)
    offsets = _row_offsets(x, rows)
    n = x.shape[-1]
    block = cpu.BLOCK_TILES * cpu.TILE
    blocks = -(-n // block)
    sums = np.empty((offsets.size, blocks))
    grain = _grain(sums.size, min(n, block))
    kernel = compiled(cpu.make_mean, add_square, real)
    threads.run(kernel, -(-sums.size // grain), cpu.MEAN_SCRATCH_BYTES, READ_NANOSECONDS[real] * offsets.size * n,
                x.ctypes.data, offsets.ctypes.data, offsets.size, n, blocks, grain, sums.ctypes.data)  # fmt: skip
    while sums.shape[1] > 1:  # the tree's last levels: neighbours, whatever is missing counting as zero
        odd = sums[:, 2 * (sums.shape[1] // 2) :]
        sums = np.concatenate([sums[:, : 2 * (sums.shape[1] // 2) : 2] + sums[:, 1::2], odd], axis=1)
    return (sums / n).reshape(offsets.shape)


def row_slopes(x: np.ndarray, weights: np.ndarray, index: Any = None) -> np.ndarray:
    """Gradient in x of sum(weights * row_means(x, index)): `2 x weights / n`, rows that repeat adding up; dtype of x."""
    real = check_rows(x)
    n = x.shape[-1]
    answer = np.zeros(x.shape, real) if index is not None else np.empty(x.shape, real)
    weights = np.asarray(weights, np.float64) / n
    rows = None
    if index is not None:
        rows, slots = np.unique(check_index(index, x.shape), return_inverse=True)
        total = np.zeros((rows.size, *x.shape[1:-1]))
        np.add.at(total, slots.reshape(-1), weights.reshape(-1, *x.shape[1:-1]))
        weights = total
    if not _kernel_ready(x):
        x = np.ascontiguousarray(x, real)
    offsets, answer_offsets = _row_offsets(x, rows), _row_offsets(answer, rows)
    weights = np.ascontiguousarray(weights)
    block = min(n, cpu.BLOCK_TILES * cpu.TILE)
    items = offsets.size * -(-n // block)
    grain = _grain(items, block)
    kernel = compiled(cpu.make_slope, square, real)
    threads.run(kernel, -(-items // grain), 0, 2 * READ_NANOSECONDS[real] * offsets.size * n,
                x.ctypes.data, offsets.ctypes.data, offsets.size, n, weights.ctypes.data, grain,
                answer.ctypes.data, answer_offsets.ctypes.data)  # fmt: skip
    return answer


def check_rows(x: Any) -> str:
    """Return the dtype of `x`; raise TypeError or ValueError unless it has rows that can be reduced."""
    real = arrays.check_float(x, "mean_square: x")
    if x.ndim < 1 or math.prod(x.shape) == 0:
        raise ValueError(f"mean_square: x must have at least one element and one axis, but has shape {tuple(x.shape)}")
    return real


def check_index(index: Any, shape: tuple[int, ...]) -> np.ndarray:
    """`index` as int64 positions in the first axis of `shape`."""
    if len(shape) < 2:
        raise ValueError(f"mean_square: index picks rows, but x has shape {tuple(shape)}")
    rows = np.asarray(index)
    if rows.dtype.kind not in "iu":
        raise TypeError(f"mean_square: index must hold integers, but has dtype {rows.dtype}")
    if rows.size == 0:
        raise ValueError("mean_square: index is empty")
    outside = (rows < -shape[0]) | (rows >= shape[0])
    if outside.any():
        raise IndexError(f"mean_square: index holds {rows[outside][0]}, but x has {shape[0]} rows")
    return np.where(rows < 0, rows + shape[0], rows).astype(np.int64)


def _row_offsets(x: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """Where each row starts, in elements from the first; of the answer's shape."""
    starts = None
    for axis in range(x.ndim - 1):
        stride = x.strides[axis] // x.itemsize
        positions = rows if axis == 0 and rows is not None else np.arange(x.shape[axis])
        starts = positions * stride if starts is None else starts[..., np.newaxis] + positions * stride
    return np.zeros((), np.int64) if starts is None else np.ascontiguousarray(starts)


def _grain(items: int, elements: int) -> int:
    """Items in one claim: at least 64 K elements, so that reads are long; at most an eighth of a thread's share."""
    return max(1, min(items // (8 * threads.thread_count()), items), -(-65536 // elements))


def _slab_means(x: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """row_means of an input that no kernel reads in place, copied a slab of rows at a time."""
    real = arrays.dtype_name(x)
    if x.ndim == 1:
        return row_means(np.ascontiguousarray(x, real))
    positions = np.arange(x.shape[0]) if rows is None else rows.reshape(-1)
    step = max(1, SLAB_BYTES // (x[0].size * x.itemsize))
    slabs = [positions[start : start + step] for start in range(0, positions.size, step)]
    means = np.concatenate([row_means(np.ascontiguousarray(x[slab], real)) for slab in slabs])
    return means if rows is None else means.reshape(*rows.shape, *x.shape[1:-1])
