"""Paths on a GPU: stored, or reduced in one pass. The same as paths.py and one_pass.py, and the same bits.

Times and parameters may be on the GPU: what steps take is computed there. Nothing waits for it: times that do not
increase and parameters that are not finite or too small give NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from fastlam import gpu, one_pass
from fastlam.elements import Dynamics, Payoff
from fastlam.kernels import cuda, cuda_tree
from fastlam.kernels.cpu import LANES, TILE
from fastlam.kernels.cuda_coefficients import make_coefficients
from fastlam.kernels.cuda_launch import word
from fastlam.kernels.cuda_simulate_mean import make_simulate_mean, times_together
from fastlam.stream import Stream
from fastlam.tree import fold_in_order

SLAB_BYTES = 2**28  # of leaves between two looks at the top of the tree
SLAB_TILES = 2**14  # of 1024 paths: 15 waves of blocks on the largest cards


def words(stream: Stream) -> tuple[Any, Any, Any]:
    """First path and the two words of the key, as kernels take them."""
    low, high = stream.key
    return word(stream.first_path), word(low), word(high)


def time_grid(times: Any) -> Any:
    """`times` as float64, contiguous."""
    on = gpu.framework(times)
    return on.cast(on.memory(times), "float64")


def steps(dynamics: Dynamics, grid: Any, values: Any, real: str) -> Any:
    """As `one_pass.step_coefficients`; `grid` (m,) and `values`, with x0 at their end, are float64 on the GPU."""
    return _coefficients(
        dynamics.coefficients,
        dynamics.n_coefficients,
        dynamics,
        grid,
        values,
        tuple(range(dynamics.n_coefficients)),
        real,
    )


def _slopes(dynamics: Dynamics, grid: Any, values: Any, directions: list[int], real: str) -> Any:
    """Slopes of the coefficients in these parameters (m, directions n_coefficients); those in x0, the last, are 0."""
    from fastlam.derivatives import coefficient_slopes  # now: SymPy is needed for derivatives alone

    n, last = dynamics.n_coefficients, len(dynamics.names) - 1
    picks = tuple(p * n + k if p < last else -1 for p in directions for k in range(n))
    return _coefficients(coefficient_slopes(dynamics.coefficients, last), last * n, dynamics, grid, values, picks, real)


def _coefficients(
    element: Any, count: int, dynamics: Dynamics, grid: Any, values: Any, picks: tuple[int, ...], real: str
) -> Any:
    """`picks` of the `count` values of element(t, dt, parameters) at each step."""
    m = grid.shape[0]
    answer = gpu.empty(grid, (m, len(picks)), real)
    case = gpu.Case(make_coefficients, (element, count, dynamics.least, picks, real))
    gpu.launch(case, gpu.blocks(m), grid, m, values, answer)
    return answer


def fill_paths(out: Any, dynamics: Dynamics, grid: Any, values: Any, stream: Stream) -> None:
    """Write paths to `out` (m, n), whose rows are contiguous; `grid` and `values` as of `steps`."""
    on = gpu.framework(out)
    arguments = dynamics.step, dynamics.observe, dynamics.n_coefficients, stream.real, stream.antithetic
    x0 = on.cast(values[-1:], stream.real)
    coefficients = steps(dynamics, grid, values, stream.real)
    case = gpu.Case(cuda.make_simulate, arguments)
    m, n = out.shape
    gpu.launch(case, gpu.blocks(n), out, on.strides(out)[0], m, n, *words(stream), x0, coefficients)


def mean_table(
    dynamics: Dynamics, payoff: Payoff, theta: Any, wanted: tuple[int, ...], grid: Any, stream: Stream,
    stderr: bool = False,
) -> Any:  # fmt: skip
    """As `one_pass.mean_table`, float64 on the GPU; `theta` and `grid` are float64 there.

    The standard error comes with the first pass; derivatives beyond what shared memory holds take passes of their own.
    """
    problem = dynamics, payoff, theta, grid
    table = gpu.scratch(grid, 1 + len(wanted) + stderr, grid.shape[0])
    shift = None
    if stderr:
        shift = gpu.scratch(grid, 1, grid.shape[0])
        _pass(*problem, (), stream._replace(n_paths=stream.unit), None, shift, 1, None)
    parts = _parts(dynamics, payoff, wanted, stream.real, stderr)
    row = 1
    for i, part in enumerate(parts):
        _pass(*problem, part, stream, shift, table, row, _shared(one_pass.asked_for(), i, len(parts)))
        row, shift = row + len(part), None
    return table


def _shared(progress: one_pass.Progress | None, part: int, parts: int) -> one_pass.Progress | None:
    """Progress of one of several passes, each of which is as much of the whole."""
    if progress is None:
        return None
    return lambda done, n_paths: one_pass.tell(progress, (part * n_paths + done) // parts, n_paths)


def host_table(
    dynamics: Dynamics, payoff: Payoff, theta: Any, wanted: tuple[int, ...], grid: Any, stream: Stream, stderr: bool,
    device: str,
) -> Any:  # fmt: skip
    """The same of NumPy's arrays on a GPU, and back."""
    theta, grid = (torch.from_numpy(array).to(device) for array in (theta, grid))
    return mean_table(dynamics, payoff, theta, wanted, grid, stream, stderr).cpu().numpy()


def means_of_numbers(
    dynamics: Dynamics, payoff: Payoff, values: tuple[float, ...], times: Any, stream: Stream, stderr: bool
) -> tuple[Any, Any]:
    """Means with these parameters and their standard errors (else means again), CuPy's as times are."""
    theta, grid = gpu.numbers(times, values), time_grid(times)
    table = mean_table(dynamics, payoff, theta, (), grid, stream, stderr)
    cast = gpu.framework(times).cast
    return cast(table[0], stream.real), cast(table[-1], stream.real)


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
    dynamics: Dynamics, payoff: Payoff, theta: Any, grid: Any, wanted: tuple[int, ...], stream: Stream, shift: Any,
    table: Any, row: int, progress: one_pass.Progress | None,
) -> None:  # fmt: skip
    """One pass over the paths: means to the table's first row, derivatives from `row` on, standard errors to its last.

    With a `shift` there are standard errors, of squares about it.
    """
    real, m, split, spread = stream.real, grid.shape[0], len(payoff.names), shift is not None
    directions = [p - split for p in wanted if p >= split]
    values = theta[split:]
    coefficients = steps(dynamics, grid, values, real)
    nothing = coefficients  # any address: none of it is read
    slopes = _slopes(dynamics, grid, values, directions, real) if directions else nothing
    about = shift if spread else grid
    x0_at = one_pass.positions_of_x0(theta.shape[0], wanted, len(directions))
    given = *x0_at, coefficients, slopes, theta, about
    case = gpu.Case(make_simulate_mean, one_pass.made_of(dynamics, payoff, wanted, stream, spread), LANES)
    n_terms = 1 + len(wanted) + spread
    sums = _sums(case, stream, grid, n_terms, given, progress)
    gpu.launch(
        gpu.Case(cuda_tree.make_table, (n_terms, spread)), gpu.blocks(m), sums, m, float(stream.n_paths),
        float(stream.n_paths // stream.unit), about, table, row, table.shape[0] - 1,
    )  # fmt: skip


def _sums(
    case: gpu.Case, stream: Stream, grid: Any, n_terms: int, given: tuple[Any, ...], progress: one_pass.Progress | None
) -> Any:
    """Sums over all paths (m n_terms,): the tree over slabs of tiles, each an aligned power of two of them."""
    m, tiles = grid.shape[0], -(-stream.n_paths // TILE)
    slab = 1
    while slab < min(tiles, SLAB_TILES) and 2 * slab * m * n_terms * 8 <= SLAB_BYTES:
        slab *= 2

    def slabs() -> Iterator[Any]:
        for first in range(0, tiles, slab):
            count = min(slab, tiles - first)
            sums = gpu.scratch(grid, 1, count, m * n_terms)
            gpu.launch(case, count, first, m, stream.n_paths, *words(stream), *given, sums)
            yield gpu.fold(sums)[0]
            if progress is not None:
                gpu.framework(sums).wait(sums)
                progress(min(stream.n_paths, (first + count) * TILE), stream.n_paths)

    return fold_in_order(slabs())
