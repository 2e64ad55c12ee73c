"""Rows of an array on a GPU: means of a functional, and its slopes in x. The same as rows.py, and the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from fastlam import arrays, gpu
from fastlam.elements import Element, Payoff
from fastlam.kernels import cuda_mean
from fastlam.kernels.cpu import TILE
from fastlam.kernels.identity import identity, no_tangents
from fastlam.kernels.square import add_square, square_slope
from fastlam.rows import check_index, check_index_form

MOST_ROWS, MOST_BLOCKS = 2**31 - 1, 2**16 - 1  # that a grid has in its first and second direction
SLAB_BYTES = 2**28  # that are copied to a GPU at a time


class Rows(NamedTuple):
    """Where rows start: `outer_stride` apart along the first axis, `inner_stride` along the others, which are one."""

    outer_stride: int
    outer: int
    inner: int
    inner_stride: int


@lru_cache(maxsize=1024)
def _walk(shape: tuple[int, ...], apart: tuple[int, ...], itemsize: int) -> tuple[Rows, bool] | None:
    """Where rows of such an array start, and whether all are aligned to 16 bytes if one is; None: read no row of it."""
    inner = [(size, stride) for size, stride in zip(shape[1:-1], apart[1:-1], strict=True) if size > 1]
    uneven = any(stride != below * size for (_, stride), (size, below) in pairwise(inner))
    if uneven or (shape[-1] > 1 and apart[-1] != 1):
        return None
    outer_stride, outer = (apart[0], shape[0]) if len(shape) > 1 else (0, 1)
    walk = Rows(outer_stride, outer, math.prod(shape[1:-1]), inner[-1][1] if inner else 0)
    return walk, walk.outer_stride * itemsize % 16 == 0 == walk.inner_stride * itemsize % 16


def _read(x: Any, find: Callable[..., Any], *about: Any) -> tuple[Any, Any]:
    """x, and what `find` says of its shape, strides in elements and itemsize.

    Where it says None, no kernel reads such rows in place: x is copied first.
    """
    on = gpu.framework(x)
    x = on.memory(x)
    if on.address(x) % x.itemsize:
        raise ValueError("x is not aligned: its address is no multiple of the size of its elements")
    found = find(x.shape, on.strides(x), x.itemsize, *about)
    if found is None:
        x = on.contiguous(x)
        found = find(x.shape, on.strides(x), x.itemsize, *about)
        assert found is not None
    return x, found


def positions(x: Any, index: Any, caller: str) -> Any:
    """`index`, checked, beside an array of CuPy. What is in memory of the CPU is checked whole."""
    if index is None:
        return None
    on = gpu.framework(x)
    if not arrays.is_cupy(index):
        return on.beside(x, check_index(index, x.shape, caller))
    check_index_form(index, x.shape, caller)
    if index.device != x.device:
        raise ValueError(f"{caller}: x is on {x.device}, but index is on {index.device}")
    return index


def square_means(x: Any, index: Any = None, mean_real: str | None = None) -> Any:
    """Mean of x**2 over the last axis, by default in the dtype of x. Rows at positions outside x are NaN."""
    return _means(x, (add_square, no_tangents), None, 0, 0, index, mean_real or arrays.dtype_name(x), ())


def host_square_means(x: Any, device: str | None) -> np.ndarray:
    """The same in float64 on the CPU, of a matrix on a GPU, or on the CPU and brought to `device` a slab at a time."""
    if arrays.on_gpu(x):
        return arrays.host_array(square_means(x, mean_real="float64"), "fit: x")
    step = max(1, SLAB_BYTES // (x.shape[1] * x.itemsize))
    paths = arrays.host_array(x, "fit: x")
    slabs = (torch.from_numpy(np.array(paths[j : j + step], order="C")) for j in range(0, len(paths), step))
    return torch.cat([square_means(slab.to(device), mean_real="float64") for slab in slabs]).cpu().numpy()


def means_of_numbers(x: Any, payoff: Payoff, values: tuple[float, ...], index: Any) -> Any:
    """Mean of a functional with these parameters over the last axis of an array of CuPy, in its dtype."""
    theta, picked = gpu.numbers(x, values), positions(x, index, "mean")
    return means(x, payoff, theta, (), picked, arrays.dtype_name(x))[0]


def means(x: Any, payoff: Payoff, theta: Any, wanted: tuple[int, ...], index: Any, mean_real: str = "float64") -> Any:
    """As `rows.array_terms`: (1 + len(wanted), ...), of the dtype `mean_real`.

    Rows at positions outside x, for which nothing can be raised without waiting for the GPU, are NaN.
    """
    count = len(payoff.names)
    parts = [wanted[i : i + cuda_mean.MOST_SLOPES] for i in range(0, len(wanted), cuda_mean.MOST_SLOPES)] or [()]
    answer, *others = (
        _means(
            x, (payoff.accumulate, _slopes(payoff, part)), theta, count, len(part), index, mean_real, (1 + len(part),)
        )
        for part in parts
    )
    return gpu.framework(x).concatenated([answer, *(other[1:] for other in others)]) if others else answer


def _slopes(payoff: Payoff, wanted: tuple[int, ...]) -> Element:
    if not wanted:
        return no_tangents
    from fastlam.derivatives import terms  # now: SymPy is needed for derivatives alone

    element: Element = terms(payoff.value, identity, len(payoff.names), wanted, 0)
    return element


class Plan(NamedTuple):
    """How means of rows are launched."""

    shape: tuple[int, ...]  # of the means
    aligned: gpu.Case  # for an x that begins at a multiple of 16 bytes, whose rows may not
    unaligned: gpu.Case
    grid: tuple[int, int]
    walk: Rows
    n_rows: int
    n: int
    blocks: int  # of each row


@lru_cache(maxsize=1024)
def _plan(
    shape: tuple[int, ...], apart: tuple[int, ...], itemsize: int, picked: tuple[int, ...] | None,
    elements: tuple[Element, Element], n_parameters: int, n_slopes: int, real: str, mean_real: str,
) -> Plan | None:  # fmt: skip
    """For an array of this shape and these strides, or rows picked of it by an index of this shape; None as `_walk`."""
    found = _walk(shape, apart, itemsize)
    if found is None:
        return None
    walk, aligned_if_one_is = found
    means = shape[:-1] if picked is None else (*picked, *shape[1:-1])
    n_rows, n, n_terms = math.prod(means), shape[-1], 1 + n_slopes
    blocks = -(-n // (cuda_mean.leaves_together(n_terms) * TILE))
    made_of = *elements, n_parameters, n_slopes, real, mean_real
    threads = cuda_mean.threads_together(n_terms)
    aligned, unaligned = (
        gpu.Case(cuda_mean.make_mean, (*made_of, aligned), threads) for aligned in (aligned_if_one_is, False)
    )
    grid = min(n_rows, MOST_ROWS), min(blocks, MOST_BLOCKS)
    return Plan(tuple(means), aligned, unaligned, grid, walk, n_rows, n, blocks)


def _means(
    x: Any, elements: tuple[Element, Element], theta: Any, n_parameters: int, n_slopes: int, index: Any, mean_real: str,
    lead: tuple[int, ...],
) -> Any:  # fmt: skip
    """Of shape (*lead, ...), where `lead` holds 1 + n_slopes: () does for one."""
    on = gpu.framework(x)
    about = elements, n_parameters, n_slopes, arrays.dtype_name(x), mean_real
    x, plan = _read(x, _plan, None if index is None else tuple(index.shape), *about)
    shape, aligned, unaligned, grid, walk, n_rows, n, blocks = plan
    n_terms = 1 + n_slopes
    answer = gpu.empty(x, (*lead, *shape), mean_real)
    nothing = answer  # any address: none of it is read
    sums = gpu.scratch(x, n_rows, blocks, n_terms) if blocks > 1 else nothing
    picked, n_index = (nothing, 0) if index is None else (on.cast(index, "int64"), math.prod(index.shape))
    theta = nothing if theta is None else theta
    case = unaligned if on.address(x) % 16 else aligned
    gpu.launch(case, grid, x, picked, n_index, *walk, n_rows, n, blocks, theta, float(n), sums, answer)
    if blocks > 1:
        divide = gpu.Case(cuda_mean.make_divide, (mean_real,))
        gpu.launch(divide, gpu.blocks(n_rows * n_terms), gpu.fold(sums), n_rows, n_terms, float(n), answer)
    return answer


def slopes(x: Any, weights: Any, index: Any, theta: Any = None, slope: Element = square_slope, count: int = 0) -> Any:
    """As `rows.array_slopes`: the gradient in x of sum(weights * means of rows), rows that repeat adding up.

    `theta` holds `count` parameters of the functional. Weights of positions outside x are left out.
    """
    on = gpu.framework(x)
    shape, real, weight_real = x.shape, arrays.dtype_name(x), arrays.dtype_name(weights)
    answer = gpu.empty(x, tuple(shape), real)
    x, (walk, _) = _read(x, _walk)
    n, n_rows = shape[-1], math.prod(shape[:-1])
    by_row, picked = gpu.scratch(x, n_rows), gpu.empty(x, (n_rows,), "int64")
    n_index = -1 if index is None else math.prod(index.shape)
    positions = picked if index is None else on.cast(index, "int64")
    weights = on.contiguous(on.memory(weights))
    weigh = gpu.Case(cuda_mean.make_weigh, (weight_real,))
    gpu.launch(weigh, gpu.blocks(n_rows), weights, positions, n_index, walk.outer, walk.inner, float(n), by_row, picked)
    case = gpu.Case(cuda_mean.make_slope, (slope, count, real))
    apart = walk.outer_stride, walk.inner, walk.inner_stride
    theta = by_row if theta is None else theta
    grid = gpu.blocks(-(-n // cuda_mean.SLOPES)), min(n_rows, MOST_BLOCKS)
    gpu.launch(case, grid, x, *apart, n_rows, n, theta, by_row, picked, answer)
    return answer
