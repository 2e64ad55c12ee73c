"""Sums over paths that are never stored: what the one-pass kernel is given, and the top of its tree of additions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from fastlam import arrays, callers, threads
from fastlam.devices import gpu_part
from fastlam.elements import Dynamics, Payoff
from fastlam.kernels import cpu
from fastlam.kernels.cpu_coefficients import make_coefficients
from fastlam.kernels.cpu_simulate_mean import make_simulate_mean, make_standard_errors
from fastlam.kernels.identity import no_tangents
from fastlam.kernels.launch import compiled
from fastlam.parameters import check_value
from fastlam.stream import Stream
from fastlam.tree import fold_in_order, fold_neighbours

PATH_NANOSECONDS = {"float32": 0.8, "float64": 2.1}  # per normal on one core
TERM_NANOSECONDS = 0.2  # besides, for each derivative
CHUNK_NANOSECONDS = 4e6  # of work in a chunk, about
SLAB_BYTES = 2**26  # of sums in the chunks between two looks at the top of the tree
SLAB_CHUNKS = 128

Progress = Callable[[int, int], None]
_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def progress_to(progress: Progress | None) -> Iterator[None]:
    """Have `progress(paths_done, n_paths)` called, or nobody: torch's ops take no functions."""
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


def asked_for() -> Progress | None:
    """Whom to tell of the paths done."""
    return _progress.get()


def tell(progress: Progress | None, done: int, n_paths: int) -> None:
    """Report to who asked for it."""
    if progress is not None:
        with progress_to(None):  # it may simulate too, of which it is not told
            progress(done, n_paths)


def made_of(
    dynamics: Dynamics, payoff: Payoff, wanted: tuple[int, ...], stream: Stream, spread: bool
) -> tuple[Any, ...]:
    """What a `make_simulate_mean`, for the CPU or for GPUs, makes a kernel of; `wanted` as `mean_table` takes it."""
    split = len(payoff.names)
    own, n_directions = tuple(p for p in wanted if p < split), sum(p >= split for p in wanted)
    tangents: Any = no_tangents
    terms: Any = no_tangents
    if wanted:
        from fastlam import derivatives  # now: SymPy is needed for derivatives alone

        terms = derivatives.terms(payoff.value, dynamics.observe, split, own, n_directions)
        if n_directions:
            tangents = derivatives.tangents(dynamics.step, dynamics.n_coefficients, n_directions)
    path, functional = (dynamics.step, dynamics.observe), (payoff.accumulate, payoff.value)
    sizes = dynamics.n_coefficients, n_directions, split, len(wanted)
    return path, tangents, functional, terms, sizes, stream.real, stream.antithetic, spread


def positions_of_x0(count: int, wanted: tuple[int, ...], n_directions: int) -> tuple[int, int]:
    """Positions of x0 among so many parameters, and of its tangent among those carried: the last, -1 if it is not."""
    last = count - 1
    return last, n_directions - 1 if last in wanted else -1


def step_coefficients(name: str, dynamics: Dynamics, grid: np.ndarray, values: np.ndarray, real: str) -> np.ndarray:
    """What `step` takes at each time (m, n_coefficients), computed in float64 and rounded once.

    `values` are the parameters of the process without x0. ValueError, of the function `name`, where it is not finite.
    """
    exact = _along(dynamics.coefficients, grid, values, dynamics.n_coefficients)
    rounded = arrays.rounded(exact, real)
    for j in np.flatnonzero(~np.isfinite(rounded).all(axis=1))[:1]:
        raise ValueError(
            f"{name}: the coefficients of the step to times[{j}] = {grid[j]} are {exact[j]}: not finite in {real}"
        )
    return rounded


def mean_table(
    name: str,
    dynamics: Dynamics,
    payoff: Payoff,
    theta: np.ndarray,
    wanted: tuple[int, ...],
    grid: np.ndarray,
    stream: Stream,
    stderr: bool = False,
    rounded_to: str | None = None,
    device: str | None = None,
) -> np.ndarray:
    """Mean over paths of the functional at each time, its derivatives, its standard error: float64, a row each.

    Parameters
    ----------
    name : str
        The function that was called, for messages.
    dynamics, payoff : Dynamics, Payoff
        The elements.
    theta : array, shape (K,), float64
        Parameters of the functional, then of the process, x0 last.
    wanted : tuple of int
        Positions in theta, ascending, of the derivatives asked for.
    grid : array, shape (m,), float64
        Times.
    stream : Stream
        Which paths.
    stderr : bool
        Add a row: the standard error, of independent pairs where paths are antithetic.
    rounded_to : str, optional
        The dtype to which the caller rounds the means, that of the paths by default: what it cannot hold is warned of.
    device : str, optional
        A GPU that computes it, as `devices.check_device` names it; by default the CPU does.

    Returns
    -------
    array, shape (1 + len(wanted) + stderr, m), float64
    """
    _check_values(name, dynamics, payoff, theta)
    problem = name, dynamics, payoff, theta
    if device is not None:
        paths = gpu_part("gpu_paths", name)
        answer = paths.host_table(dynamics, payoff, theta, wanted, grid, stream, stderr, device)
    elif not stderr:
        answer = _Launch(*problem, wanted, grid, stream).sums(asked_for()) / stream.n_paths
    else:  # squares are summed about the value on one path or pair, so that what is left of them is not rounding
        shift = _Launch(*problem, (), grid, stream._replace(n_paths=stream.unit)).sums()[0] / stream.unit
        sums = _Launch(*problem, wanted, grid, stream, shift).sums(asked_for())
        answer = sums / stream.n_paths
        answer[-1] = _stderr(sums[-1], answer[0] - shift, stream.n_paths // stream.unit)
    means = arrays.rounded(answer[0], rounded_to or stream.real)
    _warn_of(name, "mean", means, grid, ~np.isfinite(means), "the first that is not finite")
    if stderr and stream.n_paths > stream.unit:  # of one alone it is not known
        lost = np.isfinite(means) & ~np.isfinite(answer[-1])
        _warn_of(name, "standard error", answer[-1], grid, lost, "squares of the functional are beyond float64")
    return answer


def _warn_of(name: str, what: str, values: np.ndarray, grid: np.ndarray, bad: np.ndarray, why: str) -> None:
    """Warn of the first time where `values` are bad."""
    for j in np.flatnonzero(bad)[:1]:
        warnings.warn(
            f"{name}: the {what} at times[{j}] = {grid[j]:g} is {values[j]}: {why}",
            RuntimeWarning,
            stacklevel=callers.stacklevel(),
        )


def _check_values(name: str, dynamics: Dynamics, payoff: Payoff, theta: np.ndarray) -> None:
    """Tensors' values are known only now."""
    least = (None,) * len(payoff.names) + dynamics.least
    for key, value, bound in zip((*payoff.names, *dynamics.names), theta.tolist(), least, strict=True):
        check_value(f"{name}: {key}", value, bound)


def _stderr(squares: np.ndarray, mean: np.ndarray, n: int) -> np.ndarray:
    """Standard error of the mean of n values, of which these are the sum of squares and the mean, about any point."""
    about, mean, errors = np.ascontiguousarray(squares), np.ascontiguousarray(mean), np.empty(len(mean))
    kernel = compiled(make_standard_errors)
    kernel(about.ctypes.data, mean.ctypes.data, float(n), errors.ctypes.data, len(mean))
    return errors


class _Launch:
    """The kernel, what it is given, and how its work is cut."""

    def __init__(
        self, name: str, dynamics: Dynamics, payoff: Payoff, theta: np.ndarray, wanted: tuple[int, ...],
        grid: np.ndarray, stream: Stream, shift: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        real = stream.real
        split = len(payoff.names)
        directions = [p - split for p in wanted if p >= split]
        values = np.ascontiguousarray(theta[split:-1])
        self.name, self.stream, self.m = name, stream, len(grid)
        self.n_terms = 1 + len(wanted) + (shift is not None)
        self.coefficients = step_coefficients(name, dynamics, grid, values, real)
        self.slopes = _tangent_coefficients(dynamics, grid, values, directions).astype(real)
        self.theta = np.ascontiguousarray(theta)
        self.x0_at = positions_of_x0(len(theta), wanted, len(directions))
        self.shift = np.zeros(1) if shift is None else shift
        self.nanoseconds = (PATH_NANOSECONDS[real] + TERM_NANOSECONDS * (self.n_terms - 1)) * self.m  # for a path
        self.kernel = compiled(make_simulate_mean, *made_of(dynamics, payoff, wanted, stream, shift is not None))

    def sums(self, progress: Progress | None = None) -> np.ndarray:
        """Sums over all paths, a row for each term."""
        n, size = self.stream.n_paths, self.m * self.n_terms
        n_tiles = -(-n // cpu.TILE)
        tiles = self._tiles(n_tiles)
        levels, n_chunks = tiles.bit_length(), -(-n_tiles // tiles)
        fits = max(2 * threads.thread_count(), min(SLAB_CHUNKS, SLAB_BYTES // (8 * size * levels)))
        slab = 1 << (min(fits, n_chunks) - 1).bit_length()
        if 8 * size * levels * slab > SLAB_BYTES:
            arrays.check_memory(8 * size * levels * slab, self.name, "take fewer times")
        memory = np.empty((slab, levels, size))

        def slabs() -> Iterator[np.ndarray]:
            for first in range(0, n_chunks, slab):
                count = min(slab, n_chunks - first)
                done = min(n, (first + count) * tiles * cpu.TILE)
                self._run(memory[:count], first, tiles, done - first * tiles * cpu.TILE)
                yield fold_neighbours(memory[:count, 0])
                tell(progress, done, n)

        total: np.ndarray = fold_in_order(slabs())
        return total.reshape(self.m, self.n_terms).T

    def _tiles(self, n_tiles: int) -> int:
        """Tiles of a chunk: a power of two, some milliseconds of work, and enough chunks for all threads."""
        tiles = 1
        while (
            2 * tiles * cpu.TILE * self.nanoseconds <= CHUNK_NANOSECONDS
            and n_tiles >= 64 * tiles * threads.thread_count()
        ):
            tiles *= 2
        return tiles

    def _run(self, memory: np.ndarray, first_chunk: int, tiles: int, n_paths: int) -> None:
        stream = self.stream
        held = (self.coefficients, self.slopes, self.theta, self.shift, memory)
        threads.run(
            self.kernel, len(memory), self.nanoseconds * n_paths,
            first_chunk, tiles, memory.shape[1], self.m, stream.n_paths, stream.first_path,
            *stream.key, *self.x0_at, *(array.ctypes.data for array in held), owners=held,
        )  # fmt: skip


def _along(element: Callable[..., Any], grid: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """element(t, dt, values) at each step: (m, count)."""
    answer = np.empty((len(grid), count))
    kernel = compiled(make_coefficients, element, len(values), count)
    kernel(grid.ctypes.data, len(grid), values.ctypes.data, answer.ctypes.data)
    return answer


def _tangent_coefficients(
    dynamics: Dynamics, grid: np.ndarray, values: np.ndarray, directions: list[int]
) -> np.ndarray:
    """Slopes of the coefficients in these parameters (m, directions, n_coefficients); those in x0, the last, are 0."""
    answer = np.zeros((len(grid), len(directions), dynamics.n_coefficients))
    if any(p < len(values) for p in directions):
        from fastlam.derivatives import coefficient_slopes  # now: SymPy is needed for derivatives alone

        element = coefficient_slopes(dynamics.coefficients, len(values))
        slopes = _along(element, grid, values, len(values) * dynamics.n_coefficients)
        slopes = slopes.reshape(len(grid), len(values), dynamics.n_coefficients)
        for k, p in enumerate(directions):
            if p < len(values):
                answer[:, k] = slopes[:, p]
    return answer
