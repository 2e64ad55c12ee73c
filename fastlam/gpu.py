"""Launches on the GPU where tensors are: of a kernel as `make_*`, its arguments and its threads; scratch is torch's."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from fastlam.kernels import cuda, cuda_launch, cuda_tree


class Case(NamedTuple):
    """A kernel: what makes it, of what, and how many threads of it share a block."""

    make: Any
    arguments: tuple[Any, ...] = ()
    threads: int = cuda.THREADS


def launch(case: Case, grid: int | tuple[int, int], *values: Any) -> None:
    """Launch on the current stream of the device that the tensors among the values are on; these go as addresses."""
    device = next(value.device for value in values if isinstance(value, torch.Tensor))
    plain = [value.data_ptr() if isinstance(value, torch.Tensor) else value for value in values]
    with torch.cuda.device(device):
        stream = torch.cuda.current_stream(device).cuda_stream
        cuda_launch.launch(case.make, case.arguments, device.index, stream, grid, case.threads, *plain)


def blocks(count: int) -> int:
    """Blocks of threads, one thread for each of so many."""
    return -(-count // cuda.THREADS)


def scratch(like: torch.Tensor, *shape: int) -> torch.Tensor:
    """Memory for float64 numbers beside a tensor."""
    return torch.empty(shape, dtype=torch.float64, device=like.device)


def fold(sums: torch.Tensor) -> torch.Tensor:
    """The tree over the second of three axes, until one node is left: (rows, terms)."""
    while sums.shape[1] > 1:
        n_rows, nodes, n_terms = sums.shape
        groups = -(-nodes // cuda_tree.FOLD)
        folded = scratch(sums, n_rows, groups, n_terms)
        launch(Case(cuda_tree.make_fold), blocks(folded.numel()), sums, n_rows, nodes, n_terms, folded)
        sums = folded
    return sums[:, 0]
