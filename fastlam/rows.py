"""Rows of an array, wherever they lie in memory: their means of x**2 and the slopes of those, by the kernels.

Here arrays are plain memory on the CPU, already of an accepted dtype; `squares`, `means`, `autograd` say what users
see.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from fastlam import arrays, threads
from fastlam.elements import Element, Payoff
from fastlam.kernels import cpu
from fastlam.kernels.cpu_mean_terms import make_mean_terms
from fastlam.kernels.identity import identity, no_tangents
from fastlam.kernels.launch import compiled
from fastlam.kernels.square import add_square, square_slope
from fastlam.tree import fold_neighbours

BLOCK = cpu.BLOCK_TILES * cpu.TILE
READ_NANOSECONDS = {"float32": 0.15, "float64": 0.3}  # per element on one core, for the choice of threads
SLAB_BYTES = 2**22  # how much of an input in an unusual layout is copied at a time
CLAIM_ELEMENTS = 2**16  # least read in one claim: long reads keep the prefetcher busy
CLAIMS = 256  # about as many for a large input
NOTHING = np.empty(0)  # the parameters of a functional that has none


class Plan(NamedTuple):
    """How the kernels walk rows: where each starts (in elements), and how they are cut into blocks and claims."""

    shape: tuple[int, ...]
    offsets: np.ndarray
    blocks: int
    n_chunks: int
    nanoseconds: float  # of reading it all on one thread
    arguments: tuple[int, ...]  # as the kernels take them: address of offsets, rows, n, blocks, grain


def plan(shape: tuple[int, ...], strides: tuple[int, ...], real: str, rows: np.ndarray | None = None) -> Plan:
    """Plan of an array with these strides (in elements), or of its rows at positions `rows` of the first axis."""
    if rows is None and math.prod(shape[:-1]) <= 4096:
        return _remembered(shape, strides, real)
    return _plan(shape, strides, real, rows)


def _plan(shape: tuple[int, ...], strides: tuple[int, ...], real: str, rows: np.ndarray | None = None) -> Plan:
    starts = np.zeros((), np.int64)
    for axis, (size, stride) in enumerate(zip(shape[:-1], strides[:-1], strict=True)):
        positions = rows if axis == 0 and rows is not None else np.arange(size)
        starts = starts.reshape(starts.shape + (1,) * positions.ndim) + positions * stride
    starts = np.require(starts, requirements="C")
    n = shape[-1]
    blocks = -(-n // BLOCK)
    items = starts.size * blocks
    claim = max(CLAIM_ELEMENTS, starts.size * n // CLAIMS)
    grain = max(1, min(items, claim // min(n, BLOCK)))
    arguments = (starts.ctypes.data, starts.size, n, blocks, grain)
    return Plan(starts.shape, starts, blocks, -(-items // grain), READ_NANOSECONDS[real] * starts.size * n, arguments)


_remembered = lru_cache(maxsize=64)(_plan)


def fill_means(address: int, real: str, walk: Plan, divisor: int, means: int, mean_real: str, owners: object) -> None:
    """Write sum(x**2) / divisor of each row of the plan, x being at `address`, to the `mean_real` array at `means`."""
    kernel = compiled(cpu.make_mean, add_square, real, mean_real)
    sums = None if walk.blocks == 1 else np.empty((walk.offsets.size, walk.blocks))
    threads.run(
        kernel,
        walk.n_chunks,
        walk.nanoseconds,
        *(address, *walk.arguments, divisor, 0 if sums is None else sums.ctypes.data, means),
        owners=(walk, sums, owners),
    )
    if sums is not None:
        compiled(cpu.make_fold, mean_real)(sums.ctypes.data, *sums.shape, divisor, means)


def tensor_means(x: torch.Tensor, index: torch.Tensor | None = None, caller: str = "mean_square") -> torch.Tensor:
    """Mean of x**2 over the last axis of a CPU tensor, in its dtype."""
    real = arrays.dtype_name(x)
    if x._is_zerotensor():
        x = torch.zeros(x.shape, dtype=x.dtype, device="cpu")
    if x.is_neg() or (x.stride(-1) != 1 and x.shape[-1] > 1):
        picked = None if index is None else arrays.array_of(index)
        return torch.from_numpy(array_means(arrays.array_of(x), picked, real, caller))
    rows = None if index is None else check_index(arrays.array_of(index), tuple(x.shape), caller)
    walk = plan(x.shape, x.stride(), real, rows)
    means = torch.empty(walk.shape, dtype=x.dtype, device="cpu")
    fill_means(x.data_ptr(), real, walk, x.shape[-1], means.data_ptr(), real, (x, means))
    return means


def array_means(
    x: np.ndarray, index: Any = None, mean_real: str = "float64", caller: str = "mean_square"
) -> np.ndarray:
    """Mean of x**2 over the last axis, of shape `x.shape[:-1]` or `index.shape + x.shape[1:-1]`."""
    rows = None if index is None else check_index(index, x.shape, caller)
    if not readable(x):
        return _slab_means(x, rows, mean_real)
    real = arrays.dtype_name(x)
    walk = plan(x.shape, _element_strides(x), real, rows)
    means = np.empty(walk.shape, mean_real)
    fill_means(x.ctypes.data, real, walk, x.shape[-1], means.ctypes.data, mean_real, (x, means))
    return means


def array_slopes(
    x: np.ndarray,
    weights: np.ndarray,
    index: Any = None,
    slope: Element = square_slope,
    theta: np.ndarray = NOTHING,
    caller: str = "mean_square_backward",
) -> np.ndarray:
    """Gradient in x of sum(weights * means of rows): weights slope(x, theta) / n, rows that repeat adding up."""
    real = arrays.dtype_name(x)
    rows = None if index is None else check_index(index, x.shape, caller)
    check_weight(weights.shape, means_shape(x, rows), caller)
    weights = np.asarray(weights, np.float64) / x.shape[-1]
    if rows is None:
        answer = np.empty(x.shape, real)
    else:
        answer = np.zeros(x.shape, real)
        rows, weights = _merge_repeats(rows, weights, x.shape)
    if not readable(x):
        x = np.ascontiguousarray(x, real)
    walk = plan(x.shape, _element_strides(x), real, rows)
    answer_walk = plan(answer.shape, _element_strides(answer), real, rows)
    weights = np.ascontiguousarray(weights)
    threads.run(
        compiled(cpu.make_slope, slope, len(theta), real),
        walk.n_chunks,
        2 * walk.nanoseconds,
        *(x.ctypes.data, *walk.arguments, theta.ctypes.data),
        *(weights.ctypes.data, answer.ctypes.data, answer_walk.offsets.ctypes.data),
        owners=(x, walk, theta, weights, answer, answer_walk),
    )
    return answer


def array_terms(x: np.ndarray, payoff: Payoff, theta: np.ndarray, wanted: tuple[int, ...], index: Any) -> np.ndarray:
    """Mean of a functional over the last axis, and of its slopes in theta[wanted]: (1 + len(wanted), ...) float64."""
    rows = None if index is None else check_index(index, x.shape, "mean")
    if not readable(x):
        arrays.check_memory(x.nbytes, "mean", "pass x with contiguous rows, which are read in place")
        x = np.ascontiguousarray(x, arrays.dtype_name(x))
    real = arrays.dtype_name(x)
    walk = plan(x.shape, _element_strides(x), real, rows)
    slopes: Element = no_tangents
    if wanted:
        from fastlam.derivatives import terms  # now: SymPy is needed for derivatives alone

        slopes = terms(payoff.value, identity, len(theta), wanted, 0)
    sums = np.empty((walk.offsets.size, walk.blocks, 1 + len(wanted)))
    threads.run(
        compiled(make_mean_terms, payoff.accumulate, slopes, len(theta), len(wanted), real),
        walk.n_chunks,
        walk.nanoseconds * (3 + len(wanted)),
        *(x.ctypes.data, *walk.arguments, theta.ctypes.data, sums.ctypes.data),
        owners=(x, walk, theta, sums),
    )
    means = fold_neighbours(sums.swapaxes(0, 1)).T / x.shape[-1]
    return np.ascontiguousarray(means).reshape(-1, *walk.shape)


def warmup(real: str) -> None:
    """Compile the kernels of this module for one dtype of x."""
    for mean_real in {real, "float64"}:
        compiled(cpu.make_mean, add_square, real, mean_real)
        compiled(cpu.make_fold, mean_real)
    compiled(cpu.make_slope, square_slope, 0, real)


def _merge_repeats(rows: np.ndarray, weights: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows, and the sum of the weights of each."""
    distinct, slots = np.unique(rows, return_inverse=True)
    total = np.zeros((distinct.size, *shape[1:-1]))
    np.add.at(total, slots.reshape(-1), weights.reshape(-1, *shape[1:-1]))
    return distinct, total


def _element_strides(x: np.ndarray) -> tuple[int, ...]:
    return tuple([stride // x.itemsize for stride in x.strides])


def readable(x: np.ndarray) -> bool:
    """Can a kernel read the rows of x in place?"""
    contiguous = x.strides[-1] == x.itemsize or x.shape[-1] == 1
    return contiguous and x.flags.aligned and x.dtype.isnative and all(s % x.itemsize == 0 for s in x.strides[:-1])


def check_rows(x: Any, caller: str = "mean_square") -> None:
    """Raise TypeError or ValueError unless x, an array or a tensor, has rows that can be reduced."""
    arrays.check_float(x, f"{caller}: x")
    if x.ndim < 1 or 0 in x.shape:
        raise ValueError(f"{caller}: x must have at least one element and one axis, but has shape {tuple(x.shape)}")


def check_weight(shape: tuple[int, ...], means: tuple[int, ...], caller: str) -> None:
    """Raise ValueError unless a weight of this shape is one for each of the means."""
    if tuple(shape) != tuple(means):
        raise ValueError(f"{caller}: weight must have shape {tuple(means)}, but has {tuple(shape)}")


def means_shape(x: Any, index: Any) -> tuple[int, ...]:
    """Shape of the means over the last axis of x, an array or a tensor, or of its rows at `index`."""
    return tuple(x.shape[:-1]) if index is None else (*index.shape, *x.shape[1:-1])


def check_index(index: Any, shape: tuple[int, ...], caller: str = "mean_square") -> np.ndarray:
    """`index` as int64 positions in the first axis of `shape`."""
    arrays.check_unmasked(index, f"{caller}: index")
    if arrays.is_cupy(index):
        raise TypeError(f"{caller}: index is a CuPy array, but x is not: pass index.get()")
    rows = arrays.array_of(index, f"{caller}: index") if isinstance(index, torch.Tensor) else np.asarray(index)
    check_index_form(rows, shape, caller)
    positions = rows.astype(np.int64)
    outside = (positions < -shape[0]) | (positions >= shape[0])
    if rows.dtype.kind == "u":
        outside |= positions < 0  # at least 2**63
    if outside.any():
        raise IndexError(f"{caller}: index holds {rows[outside][0]}, but x has {shape[0]} rows")
    return np.where(positions < 0, positions + shape[0], positions)


def check_index_form(index: Any, shape: tuple[int, ...], caller: str) -> None:
    """What can be told of an index, array or tensor, without its values."""
    dtype = arrays.dtype_name(index)
    if not dtype.startswith(("int", "uint")):
        raise TypeError(f"{caller}: index must hold integers, but has dtype {dtype}")
    if len(shape) < 2:
        raise ValueError(f"{caller}: index picks rows, but x has shape {tuple(shape)}")
    if 0 in index.shape:
        raise ValueError(f"{caller}: index is empty")


def _slab_means(x: np.ndarray, rows: np.ndarray | None, mean_real: str) -> np.ndarray:
    """array_means of an input that no kernel reads in place, copied a slab at a time: some rows of some blocks.

    Paths outside, rows inside, so that a transposed file is read from its start to its end once.
    """
    real, n = arrays.dtype_name(x), x.shape[-1]
    flat = x.reshape(1, n) if x.ndim == 1 else x
    count, inner = flat.shape[0] if rows is None else rows.size, flat.shape[1:-1]
    shape = x.shape[:-1] if rows is None else rows.shape + inner
    row_bytes = math.prod(inner) * min(n, BLOCK) * x.itemsize
    if inner and row_bytes > SLAB_BYTES:
        parts = [array_means(flat[p], None, mean_real) for p in (range(count) if rows is None else rows.reshape(-1))]
        return np.stack(parts).reshape(shape)
    blocks = -(-n // BLOCK)
    sums = np.empty((count, *inner, blocks))
    step = max(1, SLAB_BYTES // row_bytes)
    for block in range(blocks):
        paths = slice(block * BLOCK, min(n, (block + 1) * BLOCK))
        for first in range(0, count, step):
            some = slice(first, first + step)
            slab = np.ascontiguousarray(flat[some if rows is None else rows.reshape(-1)[some], ..., paths], real)
            walk = plan(slab.shape, _element_strides(slab), real)
            part = np.empty(walk.shape)
            fill_means(slab.ctypes.data, real, walk, 1, part.ctypes.data, "float64", (slab, part))
            sums[some, ..., block] = part
    means = np.empty(sums.shape[:-1], mean_real)
    compiled(cpu.make_fold, mean_real)(sums.ctypes.data, means.size, blocks, n, means.ctypes.data)
    return means.reshape(shape)
