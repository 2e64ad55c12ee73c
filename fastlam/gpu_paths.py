"""Paths on a GPU: stored, or reduced in one pass. The same as montecarlo.py and one_pass.py, and the same bits.

Times and parameters may be on the GPU: what steps take is computed there. Nothing waits for it: times that do not
increase and parameters that are not finite give NaN.
"""

from __future__ import annotations

from typing import Any

import torch

from fastlam import gpu
from fastlam.elements import Dynamics, Payoff
from fastlam.kernels import cuda, cuda_tree
from fastlam.kernels.cpu import LANES, TILE
from fastlam.kernels.cuda_coefficients import make_coefficients
from fastlam.kernels.cuda_launch import word
from fastlam.kernels.cuda_simulate_mean import make_simulate_mean, times_together
from fastlam.kernels.identity import no_tangents
from fastlam.stream import Stream

SLAB_BYTES = 2**28  # of leaves between two looks at the top of the tree
SLAB_TILES = 2**14  # of 1024 paths: 15 waves of blocks on the largest cards


def words(stream: Stream) -> tuple[Any, Any, Any]:
    """First path and the two words of the key, as kernels take them."""
    return word(stream.first_path), word(stream.seed % 2**32), word(stream.seed >> 32)


def steps(dynamics: Dynamics, grid: torch.Tensor, values: torch.Tensor, real: str) -> torch.Tensor:
    """As `one_pass.step_coefficients`; `grid` (m,) and `values`, with x0 at their end, are float64 on the GPU."""
    picks = tuple(range(dynamics.n_coefficients))
    return _along(dynamics.coefficients, grid, values, dynamics.n_coefficients, picks, real)


def _slopes(dynamics: Dynamics, grid: torch.Tensor, values: torch.Tensor, directions: list[int], real: str) -> Any:
    """Slopes of the coefficients in these parameters (m, directions n_coefficients); those in x0, the last, are 0."""
    from fastlam.derivatives import coefficient_slopes  # now: SymPy is needed for derivatives alone

    n, last = dynamics.n_coefficients, len(values) - 1
    picks = tuple(p * n + k if p < last else -1 for p in directions for k in range(n))
    return _along(coefficient_slopes(dynamics.coefficients, last), grid, values, last * n, picks, real)


def _along(element: Any, grid: torch.Tensor, values: torch.Tensor, count: int, picks: Any, real: str) -> torch.Tensor:
    answer = torch.empty((len(grid), len(picks)), dtype=getattr(torch, real), device=grid.device)
    case = gpu.Case(make_coefficients, (element, len(values) - 1, count, picks, real))
    gpu.launch(case, gpu.blocks(len(grid)), grid, len(grid), values, answer)
    return answer


def fill_paths(out: torch.Tensor, dynamics: Dynamics, grid: torch.Tensor, values: torch.Tensor, stream: Stream) -> None:
    """Write paths to `out` (m, n), whose rows are contiguous."""
    arguments = dynamics.step, dynamics.observe, dynamics.n_coefficients, stream.real, stream.antithetic
    x0 = values[-1:].to(out.dtype)
    coefficients = steps(dynamics, grid, values, stream.real)
    case = gpu.Case(cuda.make_simulate, arguments)
    m, n = out.shape
    gpu.launch(case, gpu.blocks(n), out, out.stride(0), m, n, *words(stream), x0, coefficients)


def mean_table(
    dynamics: Dynamics, payoff: Payoff, theta: torch.Tensor, wanted: tuple[int, ...], grid: torch.Tensor,
    stream: Stream, stderr: bool = False,
) -> torch.Tensor:  # fmt: skip
    """As `one_pass.mean_table`, float64 on the GPU; the standard error comes with the first pass.

    Derivatives beyond what shared memory holds take passes of their own.
    """
    problem = dynamics, payoff, theta, grid
    pair = 2 if stream.antithetic else 1
    shift = None
    if stderr:
        shift = _pass(*problem, (), stream._replace(n_paths=pair), None)[0]
    parts = _parts(dynamics, payoff, wanted, stream.real, stderr)
    first = _pass(*problem, parts[0], stream, shift)
    others = [_pass(*problem, part, stream, None)[1:] for part in parts[1:]]
    slopes = [first[1 : 1 + len(parts[0])], *others]
    return torch.cat([first[:1], *slopes, *([first[-1:]] if stderr else [])])


def _parts(
    dynamics: Dynamics, payoff: Payoff, wanted: tuple[int, ...], real: str, stderr: bool
) -> list[tuple[int, ...]]:
    """The derivatives of each pass."""
    split = len(payoff.names)
    parts: list[tuple[int, ...]] = [()]
    for p in wanted:
        part = (*parts[-1], p)
        n_tangents = sum(q >= split for q in part)
        if times_together(1 + len(part) + stderr, n_tangents, real):
            parts[-1] = part
        else:
            parts.append((p,))
    return parts


def _pass(
    dynamics: Dynamics, payoff: Payoff, theta: torch.Tensor, grid: torch.Tensor, wanted: tuple[int, ...],
    stream: Stream, shift: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """One pass over the paths: means, derivatives, standard error, a row each."""
    real, m, split, spread = stream.real, len(grid), len(payoff.names), shift is not None
    directions = [p - split for p in wanted if p >= split]
    values = theta[split:].contiguous()
    coefficients = steps(dynamics, grid, values, real)
    empty = torch.zeros(1, dtype=coefficients.dtype, device=grid.device)
    slopes = _slopes(dynamics, grid, values, directions, real) if directions else empty
    starts = [torch.full_like(empty, float(p == len(values) - 1)) for p in directions]
    start = torch.cat(starts) if directions else empty
    n_terms = 1 + len(wanted) + spread
    tail = (
        values[-1:].to(empty.dtype),
        start,
        coefficients,
        slopes,
        theta,
        gpu.scratch(grid, 1) if shift is None else shift,
    )
    case = _case(dynamics, payoff, wanted, directions, stream, spread)
    sums = _sums(case, stream, m, n_terms, tail)
    table = gpu.scratch(grid, n_terms, m)
    units = stream.n_paths // (2 if stream.antithetic else 1)
    gpu.launch(
        gpu.Case(cuda_tree.make_table, (n_terms, spread)), gpu.blocks(m), sums, m, float(stream.n_paths), float(units),
        tail[-1], table,
    )  # fmt: skip
    return table


def _case(
    dynamics: Dynamics, payoff: Payoff, wanted: tuple[int, ...], directions: list[int], stream: Stream, spread: bool
) -> gpu.Case:
    split = len(payoff.names)
    tangents: Any = no_tangents
    terms: Any = no_tangents
    if wanted:
        from fastlam import derivatives  # now: SymPy is needed for derivatives alone

        own = tuple(p for p in wanted if p < split)
        terms = derivatives.terms(payoff.value, dynamics.observe, split, own, len(directions))
        if directions:
            tangents = derivatives.tangents(dynamics.step, dynamics.n_coefficients, len(directions))
    sizes = dynamics.n_coefficients, len(directions), split, len(wanted)
    path, functional = (dynamics.step, dynamics.observe), (payoff.accumulate, payoff.value)
    arguments = path, tangents, functional, terms, sizes, stream.real, stream.antithetic, spread
    return gpu.Case(make_simulate_mean, arguments, LANES)


def _sums(case: gpu.Case, stream: Stream, m: int, n_terms: int, tail: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Sums over all paths (m n_terms,): the tree over slabs of tiles, each an aligned power of two of them."""
    tiles = -(-stream.n_paths // TILE)
    slab = 1
    while slab < min(tiles, SLAB_TILES) and 2 * slab * m * n_terms * 8 <= SLAB_BYTES:
        slab *= 2
    tree: list[tuple[int, torch.Tensor]] = []
    for first in range(0, tiles, slab):
        count = min(slab, tiles - first)
        sums = gpu.scratch(tail[0], 1, count, m * n_terms)
        gpu.launch(case, count, *_ordered(first, m, stream, tail), sums)
        level, node = 0, gpu.fold(sums)[0]
        while tree and tree[-1][0] == level:
            level, node = level + 1, tree.pop()[1] + node
        tree.append((level, node))
    node = tree.pop()[1]
    while tree:
        node = tree.pop()[1] + node
    return node.contiguous()


def _ordered(first: int, m: int, stream: Stream, tail: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
    return (first, m, stream.n_paths, *words(stream), *tail)
