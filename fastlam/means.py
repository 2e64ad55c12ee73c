"""Means of functionals over paths, given or simulated in one pass: the public functions check and launch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from fastlam import arrays, autograd, mean_of, parameters, pathwise, rows, squares
from fastlam.attach import attach, refusing
from fastlam.devices import gpu_part
from fastlam.elements import record
from fastlam.functionals import PathFunctional, Square, check_functional
from fastlam.one_pass import mean_table, progress_to
from fastlam.processes import Process, check_process
from fastlam.stream import check_times, stream, time_grid

MOST_PATHS = 2**40


def mean(functional: PathFunctional, x: Any, *, index: Any = None) -> Any:
    """Mean over paths of a functional, for each leading position of `x`.

    Parameters
    ----------
    functional : PathFunctional
        `Square`, `Polynomial`, `Functional` or one's own.
    x : array or tensor, shape (..., n)
        float32 or float64; the last axis is reduced. Read in place where its rows are contiguous, else copied. NaN and
        infinity flow through.
    index : integer array or tensor, optional
        Rows of the first axis to reduce, as `x[index]` without its copy; repeats and negative positions allowed. On a
        GPU, where nobody waits for its values, a position outside of x gives NaN.

    Returns
    -------
    array or tensor, shape (...,) or index.shape + (...)
        Of the kind and dtype of `x`. The functional is evaluated and its mean accumulated in float64 over a fixed tree,
        and rounded once. For tensors: differentiable once in `x` and in the functional's parameters that are tensors
        (`Square`: as `mean_square`, twice).

    Raises
    ------
    TypeError, ValueError, IndexError
        Bad arguments, named.
    NotImplementedError
        A second derivative.

    Examples
    --------
    >>> import fastlam, torch
    >>> strike = torch.tensor(2.0, requires_grad=True)
    >>> price = fastlam.mean(fastlam.Functional("max(x - k, 0)", {"k": strike}), torch.tensor([[1.0, 3.0, 5.0]]))
    >>> price.backward()
    >>> price, strike.grad
    (tensor([1.3333], grad_fn=<MulBackward0>), tensor(-0.6667))

    Source: README, "The promises".
    """
    check_functional("mean", functional)
    if functional.handle == Square.handle:  # not a subclass with an element of its own
        return squares.mean_square(x, functional.factor, index=index)
    kind = arrays.kind(x, "mean: x")
    rows.check_rows(x, "mean")
    if kind == "torch":
        answer = mean_of.mean(x, functional.handle, functional.parameters(), index)
        return autograd.check_lam(functional.factor, x, answer, "mean") * answer
    values = tuple(functional.parameters().values())
    _check_no_tensors("mean: x", (*values, functional.factor), kind)
    payoff = record(functional.handle)
    with arrays.active(x):
        if kind == "cupy":
            means = gpu_part("gpu_rows", "mean: x").means_of_numbers(x, payoff, values, index)
        else:
            terms = rows.array_terms(x, payoff, np.array(values, np.float64), (), index)
            means = arrays.rounded(terms[0], arrays.dtype_name(x))
        return squares.times_lam(functional.factor, means, "mean")


def simulate_mean(
    functional: PathFunctional,
    process: Process,
    times: Any,
    n_paths: int,
    *,
    seed: int,
    first_path: int = 0,
    antithetic: bool = False,
    dtype: Any = None,
    return_stderr: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """Mean over simulated paths of a functional at each time, in one pass that stores no path.

    The answer is that of `mean(functional, simulate(process, times, n_paths, ...))`, to the last bit, and memory does
    not grow with `n_paths`. It is differentiable, once, in every parameter of the process and of the functional that is
    given as a tensor: derivatives along each path are carried beside it in the same pass.

    Parameters
    ----------
    functional : PathFunctional
        `Square`, `Polynomial`, `Functional` or one's own.
    process : Process
        `Brownian`, `GeometricBrownian`, `OrnsteinUhlenbeck`, `CoxIngersollRoss`, `Diffusion` or one's own.
    times : array or tensor, shape (m,)
        Strictly increasing, `times[0] >= 0`; float32, float64 or integer. The answer is of its kind, where it is: on a
        GPU for CUDA tensors and CuPy arrays, of which bad values give NaN (README, "On a GPU"). Only the steps between
        these times are drawn: a sorted batch of the times of a process costs no more than its length.
    n_paths : int
        Number of paths n, at most 2**40.
    seed : int
        In [0, 2**64).
    first_path : int
        Number of the first path in the seed's family, as in `simulate`: training and validation paths are slices.
    antithetic : bool
        Path 2q + 1 of the family has path 2q's noise negated.
    dtype : dtype, optional
        Of the paths and the answer, float32 or float64; by default that of `times`, float32 for integers.
    return_stderr : bool
        Return the Monte Carlo standard errors too; antithetic pairs count as pairs.
    progress : callable, optional
        Called now and then as `progress(paths_done, n_paths)`.

    Returns
    -------
    array or tensor, shape (m,), or a pair of them
        The means; and, with `return_stderr`, their standard errors, which carry no derivative (NaN for one path).

    Raises
    ------
    TypeError, ValueError
        Bad arguments, named.
    NotImplementedError
        A second derivative in a parameter of the process or of the functional; one of a standard error under a
        transform of `torch.func` (in forward mode also where only the mean is used).

    Warns
    -----
    RuntimeWarning
        A mean is not finite in the dtype of the answer, or a standard error is not as squares of the functional are
        beyond float64; names the first such time. Not with `times` on a GPU, for which nobody waits.

    Examples
    --------
    >>> import fastlam, torch
    >>> sigma = torch.tensor(0.5, requires_grad=True)
    >>> process = fastlam.GeometricBrownian(mu=0.1, sigma=sigma, x0=1.0)
    >>> third = fastlam.Polynomial([0, 0, 0, 1])
    >>> moment = fastlam.simulate_mean(third, process, torch.tensor([1.0, 2.0]), 100_000, seed=7)
    >>> moment.sum().backward()
    >>> moment.shape, sigma.grad.shape
    (torch.Size([2]), torch.Size([]))

    Source: pathwise derivatives: Glasserman, Monte Carlo Methods in Financial Engineering (2003), section 7.2.
    """
    return _simulate_mean("simulate_mean", functional, process, times, n_paths, seed, first_path, antithetic, dtype,
                          return_stderr, progress)  # fmt: skip


def simulate_mean_square(
    process: Process,
    times: Any,
    n_paths: int,
    lam: Any = 1.0,
    *,
    seed: int,
    first_path: int = 0,
    antithetic: bool = False,
    dtype: Any = None,
    return_stderr: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """`mean_square(simulate(process, times, n_paths, ...), lam)`, to the last bit, in one pass that stores no path.

    Parameters
    ----------
    lam : float, array or tensor
        A scalar, or of shape (m,).
    process, times, n_paths, seed, first_path, antithetic, dtype, return_stderr, progress
        As in `simulate_mean`.

    Returns
    -------
    array or tensor, shape (m,), or a pair of them
        As `simulate_mean`. Differentiable in `lam` twice, in the parameters of the process once.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As `simulate_mean`.

    Examples
    --------
    >>> import fastlam, numpy as np
    >>> process = fastlam.Brownian(mu=0.05, sigma=0.2)
    >>> times = np.arange(1, 5) / 4
    >>> k, stderr = fastlam.simulate_mean_square(process, times, 10**6, lam=0.25, seed=7, return_stderr=True)
    >>> exact = 0.25 * ((0.05 * times) ** 2 + 0.2**2 * times)
    >>> bool((abs(k - exact) < 4 * stderr).all())
    True
    """
    return _simulate_mean("simulate_mean_square", Square(lam), process, times, n_paths, seed, first_path, antithetic,
                          dtype, return_stderr, progress)  # fmt: skip


def _simulate_mean(
    name: str, functional: Any, process: Any, times: Any, n_paths: Any, seed: Any, first_path: Any, antithetic: Any,
    dtype: Any, return_stderr: Any, progress: Any,
) -> Any:  # fmt: skip
    check_functional(name, functional)
    check_process(name, process)
    kind = check_times(name, times)
    which = stream(name, seed, first_path, n_paths, antithetic, dtype, times, MOST_PATHS)
    if not isinstance(return_stderr, (bool, np.bool_)):
        raise TypeError(f"{name}: return_stderr must be True or False, but is {return_stderr!r}")
    if return_stderr and which.antithetic and (which.first_path % 2 or which.n_paths % 2):
        raise ValueError(f"{name}: with antithetic and return_stderr, first_path and n_paths must be even: whole pairs")
    _check_progress(name, progress)
    means = _tensor_means if kind == "torch" else _array_means
    with arrays.active(times), progress_to(progress) if progress is not None else nullcontext():
        mean, stderr = means(name, functional, process, times, which, bool(return_stderr))
    return (mean, stderr) if return_stderr else mean


def _check_no_tensors(name: str, values: tuple[Any, ...], kind: str) -> None:
    """An array's answer is an array, which carries no gradient."""
    if any(isinstance(value, torch.Tensor) for value in values):
        argument = name.rsplit(" ", 1)[-1]
        raise TypeError(
            f"{name} is a {arrays.WHOSE[kind]} array, but a parameter is a tensor: pass torch.as_tensor({argument})"
        )


def _check_progress(name: str, progress: Any) -> None:
    if progress is None:
        return
    if not callable(progress):
        raise TypeError(f"{name}: progress must be callable as progress(paths_done, n_paths), but is {progress!r}")
    if torch.compiler.is_compiling():
        raise NotImplementedError(f"{name}: progress cannot be called from compiled code: leave it out there")


def _array_means(name: str, functional: Any, process: Any, times: Any, which: Any, return_stderr: bool) -> Any:
    values = (*functional.parameters().values(), *process.parameters().values())
    _check_no_tensors(f"{name}: times", (*values, functional.factor), arrays.kind(times, f"{name}: times"))
    elements = record(process.handle), record(functional.handle)
    if arrays.on_gpu(times):
        paths = gpu_part("gpu_paths", f"{name}: times")
        mean, stderr = paths.means_of_numbers(*elements, values, times, which, return_stderr)
    else:
        theta = np.array(values, np.float64)
        table = mean_table(name, *elements, theta, (), time_grid(name, times), which, return_stderr)
        mean, stderr = arrays.rounded(table[0], which.real), arrays.rounded(table[-1], which.real)
    factor = squares.check_lam(functional.factor, mean, name)
    return factor * mean, abs(factor) * stderr if return_stderr else None


def _tensor_means(name: str, functional: Any, process: Any, times: Any, which: Any, return_stderr: bool) -> Any:
    names, values = zip(*functional.parameters().items(), *process.parameters().items(), strict=True)
    theta = parameters.vector(name, names, values, parameters.CPU if times.is_meta else times.device)
    wanted = parameters.wanted(values)
    table = pathwise.table(name, theta, times, process.handle, functional.handle, wanted, which, return_stderr)
    real = getattr(torch, which.real)
    mean = attach(theta, values, wanted, table, real)
    factor = autograd.check_lam(functional.factor, mean, mean, name)
    if not return_stderr:
        return factor * mean, None
    scale: Any = factor.detach() if isinstance(factor, torch.Tensor) else factor
    stderr = abs(scale) * table[-1].to(real)
    words = f"{name}: standard errors carry no derivatives: leave return_stderr out under a transform"
    return factor * mean, refusing(stderr, words, theta, factor)
