"""Means of squares of paths that are given: the public functions check and launch."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlam import arrays, autograd, rows
from fastlam.devices import gpu_part


def mean_square(x: Any, lam: Any = 1.0, *, index: Any = None) -> Any:
    """`lam` times the mean over paths of `x**2`, fused, for each leading position of `x`.

    Parameters
    ----------
    x : array or tensor, shape (..., n)
        float32 or float64, any layout; the last axis is reduced. Read in place where its rows are contiguous, else
        copied a few megabytes at a time (on a GPU whole). NaN and infinity flow through. CuPy's arrays are no tensors:
        their answer carries no gradient.
    lam : float, array or tensor
        A scalar, or of a shape that broadcasts to the answer's.
    index : integer array or tensor, optional
        Rows of the first axis to reduce, as `x[index]` without its copy; repeats and negative positions allowed. On a
        GPU, where nobody waits for its values, a position outside of x gives NaN.

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
    if arrays.kind(x, "mean_square: x") == "torch":
        return autograd.mean_square(x, lam, index)
    with arrays.active(x):
        return times_lam(lam, _square_means(x, index, "mean_square"), "mean_square")


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

    Raises
    ------
    TypeError, ValueError, IndexError
        As `mean_square`.
    NotImplementedError
        A derivative of either, asked for by a transform of `torch.func` or by forward mode.

    Examples
    --------
    >>> import fastlam, numpy as np
    >>> fastlam.mean_square_value_and_grad(np.array([[1.0, 2.0]]), lam=2.0)
    (array([5.]), array([2.5]))
    """
    caller = "mean_square_value_and_grad"
    if arrays.kind(x, f"{caller}: x") == "torch":
        return autograd.mean_square_value_and_grad(x, lam, index)
    with arrays.active(x):
        mean = _square_means(x, index, caller)
        return times_lam(lam, mean, caller), mean[()]


def _square_means(x: Any, index: Any, caller: str) -> Any:
    """Means of x**2 over the last axis of an array, NumPy's or CuPy's, in its dtype."""
    rows.check_rows(x, caller)
    if not arrays.on_gpu(x):
        return rows.array_means(x, index, arrays.dtype_name(x), caller)
    part = gpu_part("gpu_rows", f"{caller}: x")
    return part.square_means(x, part.positions(x, index, caller))


def times_lam(lam: Any, mean: Any, caller: str) -> Any:
    """`lam` times means that are rounded already, in their dtype; beyond it infinite, without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):  # as a tensor's
        return check_lam(lam, mean, caller) * mean


def check_lam(lam: Any, mean: Any, caller: str) -> Any:
    """`lam` in the dtype of `mean`, of a shape that leaves the answer's alone; with CuPy's means one of CuPy's."""
    real = arrays.dtype_name(mean)
    if type(lam) is float:
        return arrays.rounded(lam, real)[()]
    if arrays.is_cupy(mean):
        from fastlam import on_cupy  # now: CuPy is imported where the user did

        return on_cupy.beside(mean, arrays.fit_lam(_cupy_lam(lam, mean, real, caller), mean.shape, caller))
    lam = arrays.lam_array(lam, real, caller, "an array of the kind of x (NumPy)")
    return arrays.fit_lam(lam, mean.shape, caller)


def _cupy_lam(lam: Any, mean: Any, real: str, caller: str) -> Any:
    if not arrays.is_cupy(lam):
        return arrays.lam_array(lam, real, caller, "an array of the kind of x (CuPy)")
    if lam.device != mean.device:
        raise ValueError(f"{caller}: x is on {mean.device}, but lam is on {lam.device}")
    arrays.check_lam_dtype(lam, caller)
    return lam.astype(real)
