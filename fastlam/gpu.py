"""Launches on the GPU where arrays are, torch's or CuPy's: on their current stream, with scratch of their framework."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

from fastlam import on_torch
from fastlam.kernels import cuda, cuda_launch, cuda_tree
from fastlam.kernels.cuda_coefficients import NUMBERS, make_numbers

MOST_ELEMENTS = 2**48
OWN = "take less at a time, or free what is not needed"
HERE = nullcontext()  # no other GPU becomes the active one
PLAIN = {int, float, type(cuda_launch.word(0))}  # what goes to a kernel as it is


class Case(NamedTuple):
    """A kernel: what makes it, of what, and how many threads of it share a block."""

    make: Any
    arguments: tuple[Any, ...] = ()
    threads: int = cuda.THREADS


def framework(x: Any) -> Any:
    """What is known of arrays of this kind: on_torch or on_cupy."""
    if isinstance(x, torch.Tensor):
        return on_torch
    from fastlam import on_cupy  # now: CuPy is imported where the user did

    return on_cupy


def launch(case: Case, grid: int | tuple[int, int], *values: Any) -> None:
    """Launch where the arrays among the values are, on the stream of their framework; they go as addresses."""
    for array in values:  # a generator takes as long as the rest
        if type(array) not in PLAIN:
            break
    on = framework(array)
    address, number = on.address, on.device(array)
    plain = [value if type(value) in PLAIN else address(value) for value in values]
    with HERE if number == on.active() else on.activated(number):
        cuda_launch.launch(case.make, case.arguments, number, on.stream(number), grid, case.threads, *plain)


def device(x: Any) -> int:
    """Number of the GPU that an array is on."""
    there: int = framework(x).device(x)
    return there


def blocks(count: int) -> int:
    """Blocks of threads, one thread for each of so many."""
    return -(-count // cuda.THREADS)


def empty(like: Any, shape: tuple[int, ...], dtype: str, name: str = "the GPU's scratch", remedy: str = OWN) -> Any:
    """New memory beside an array; MemoryError, with the remedy, where the GPU has none."""
    on, error = framework(like), None
    if math.prod(shape) < MOST_ELEMENTS:  # beyond that sizes in bytes overflow
        try:
            return on.empty(like, shape, dtype)
        except on.OutOfMemory as refused:
            error = refused
    there, size = on.device(like), math.prod(shape) * (4 if dtype == "float32" else 8)
    needs, free = f"{size / 1e9:,.1f} GB on GPU {there}", f"{on.free_bytes(there) / 1e9:,.1f} GB"
    raise MemoryError(f"{name} needs {needs}, but {free} are available: {remedy}") from error


def scratch(like: Any, *shape: int) -> Any:
    """Memory for float64 numbers beside an array."""
    return empty(like, shape, "float64")


def numbers(like: Any, values: Sequence[float]) -> Any:
    """A float64 array of these numbers beside another: they come with a launch, and nobody waits for a copy."""
    answer = scratch(like, max(1, len(values)))
    for first in range(0, len(values), NUMBERS):
        some = [float(value) for value in values[first : first + NUMBERS]]
        filled = some + [0.0] * (NUMBERS - len(some))
        launch(Case(make_numbers, (), NUMBERS), 1, answer[first:], len(some), *filled)
    return answer[: len(values)]


def fold(sums: Any) -> Any:
    """The tree over the second of three axes, until one node is left: (rows, terms)."""
    while sums.shape[1] > 1:
        n_rows, nodes, n_terms = sums.shape
        groups = -(-nodes // cuda_tree.FOLD)
        folded = scratch(sums, n_rows, groups, n_terms)
        launch(Case(cuda_tree.make_fold), blocks(n_rows * groups * n_terms), sums, n_rows, nodes, n_terms, folded)
        sums = folded
    return sums[:, 0]
