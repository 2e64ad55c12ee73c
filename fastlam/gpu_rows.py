"""Rows of a tensor on a GPU: means of a functional, and its slopes in x. The same as rows.py, and the same bits."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from fastlam import arrays, gpu
from fastlam.elements import Element, Payoff
from fastlam.kernels import cuda_mean
from fastlam.kernels.cpu import TILE
from fastlam.kernels.identity import identity, no_tangents
from fastlam.kernels.square import square_slope

MOST_BLOCKS = 2**16 - 1  # that a grid has in its second direction


class Rows(NamedTuple):
    """Where rows start: `outer_stride` apart along the first axis, `inner_stride` along the others, which are one."""

    outer_stride: int
    outer: int
    inner: int
    inner_stride: int

    def aligned(self, x: torch.Tensor) -> bool:
        """Does each begin at a multiple of 16 bytes?"""
        places = x.data_ptr(), self.outer_stride * x.itemsize, self.inner_stride * x.itemsize
        return not any(place % 16 for place in places)


def rows_of(x: torch.Tensor) -> tuple[torch.Tensor, Rows]:
    """x, copied where no kernel reads it in place, and where its rows start."""
    x = torch.zeros_like(x) if x._is_zerotensor() else x.detach().resolve_neg()
    inner = x.shape[1:-1]
    if x.shape[-1] > 1 and x.stride(-1) != 1:
        x = x.contiguous()
    if any(x.stride(a) != x.stride(a + 1) * x.shape[a + 1] for a in range(1, x.ndim - 2)):
        x = x.contiguous()
    outer_stride, outer = (x.stride(0), x.shape[0]) if x.ndim > 1 else (0, 1)
    return x, Rows(outer_stride, outer, math.prod(inner), x.stride(-2) if inner else 0)


def means(
    x: torch.Tensor, payoff: Payoff, theta: torch.Tensor, wanted: tuple[int, ...], index: torch.Tensor | None,
    mean_real: str = "float64",
) -> torch.Tensor:  # fmt: skip
    """As `rows.array_terms`: (1 + len(wanted), ...), of the dtype `mean_real`.

    Rows at positions outside x, for which nothing can be raised without waiting for the GPU, are NaN.
    """
    slopes: Element = no_tangents
    if wanted:
        from fastlam.derivatives import terms  # now: SymPy is needed for derivatives alone

        slopes = terms(payoff.value, identity, len(theta), wanted, 0)
    shape = x.shape[:-1] if index is None else (*index.shape, *x.shape[1:-1])
    x, walk = rows_of(x)
    picked = x.new_empty(1, dtype=torch.int64) if index is None else index.long().contiguous()
    n_rows, n, n_terms = math.prod(shape), x.shape[-1], 1 + len(wanted)
    blocks = -(-n // (cuda_mean.leaves_together(n_terms) * TILE))
    sums = gpu.scratch(x, n_rows, blocks if blocks > 1 else 0, n_terms)
    answer = torch.empty((n_rows, n_terms), dtype=getattr(torch, mean_real), device=x.device)
    real = arrays.dtype_name(x)
    arguments = payoff.accumulate, slopes, len(theta), len(wanted), real, mean_real, walk.aligned(x)
    case = gpu.Case(cuda_mean.make_mean, arguments, cuda_mean.threads_together(n_terms))
    gpu.launch(
        case, (n_rows, min(blocks, MOST_BLOCKS)), x, picked, 0 if index is None else index.numel(), *walk, n, blocks,
        theta, float(n), sums, answer,
    )  # fmt: skip
    if blocks > 1:
        divide = gpu.Case(cuda_mean.make_divide, (mean_real,))
        gpu.launch(divide, gpu.blocks(answer.numel()), gpu.fold(sums), answer.numel(), float(n), answer)
    return answer.T.contiguous().reshape(n_terms, *shape)


def slopes(
    x: torch.Tensor, weights: torch.Tensor, index: torch.Tensor | None, theta: torch.Tensor,
    slope: Element = square_slope,
) -> torch.Tensor:  # fmt: skip
    """As `rows.array_slopes`: the gradient in x of sum(weights * means of rows), rows that repeat adding up."""
    answer = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    x, walk = rows_of(x)
    n, n_rows = x.shape[-1], math.prod(x.shape[:-1])
    weights = weights.double().contiguous()
    picked = torch.empty(n_rows, dtype=torch.int64, device=x.device)
    if index is None:
        weights = weights / n
    else:
        by_row = gpu.scratch(x, n_rows)
        gpu.launch(
            gpu.Case(cuda_mean.make_weigh), gpu.blocks(n_rows), weights, index.long().contiguous(), index.numel(),
            walk.outer, walk.inner, float(n), by_row, picked,
        )  # fmt: skip
        weights = by_row
    case = gpu.Case(cuda_mean.make_slope, (slope, len(theta), arrays.dtype_name(x)))
    grid = gpu.blocks(n), min(n_rows, MOST_BLOCKS)
    apart = walk.outer_stride, walk.inner, walk.inner_stride
    gpu.launch(case, grid, x, *apart, n_rows, n, theta, weights, picked, 0 if index is None else 1, answer)
    return answer
