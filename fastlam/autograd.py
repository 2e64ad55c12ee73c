"""`mean_square` for torch: an opaque op, an autograd.Function around it, and a form that carries every transform.

`lam` multiplies in torch, so whatever is asked of it composes by itself; only s(x) = mean(x**2) is ours. In x:

* a plain backward runs our slope kernel (`MeanSquare`);
* under `torch.func`, forward-mode AD, or a graph of the backward itself, s has the op's value and the derivatives, of
  any order, of the same thing in plain torch (`_carried`);
* the op itself knows a plain backward, so that what `torch.jit.trace` keeps of us is differentiable.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import NoneType
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import torch

from fastlam import arrays, rows
from fastlam.attach import (
    differentiated_again,
    has_tangent,
    observed,
    refusing,
    requires_grad,
    under_transform,
    without_derivatives,
)
from fastlam.devices import gpu_part

_PLAIN = (torch.Tensor, torch.nn.Parameter)  # subclasses may have no memory of their own
_is_tracing: Callable[[], bool] = torch.jit.is_tracing  # type: ignore[attr-defined]
P = ParamSpec("P")
R = TypeVar("R")

_library = torch.library.Library("fastlam", "DEF")
_library.define("mean_square(Tensor x, Tensor? index=None) -> Tensor")
_library.define("mean_square_backward(Tensor x, Tensor weight, Tensor? index=None) -> Tensor")


def _means(x: torch.Tensor, index: torch.Tensor | None, caller: str) -> torch.Tensor:
    """Mean of x**2 over the last axis, in the dtype of x; all is checked."""
    if x.is_cuda:
        means: torch.Tensor = gpu_part("gpu_rows", f"{caller}: x").square_means(x, index)
        return means
    return rows.tensor_means(x, index, caller)


def _mean_square(x: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
    rows.check_rows(x)
    if x.is_cuda:
        check_beside_on_gpu(x, index, "mean_square")
    return _means(x, index, "mean_square")


def _mean_square_backward(x: torch.Tensor, weight: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
    caller = "mean_square_backward"
    rows.check_rows(x, caller)
    arrays.check_float(weight, f"{caller}: weight")
    if x.is_cuda:
        check_weight_on_gpu(x, weight, index, caller)
        return gpu_part("gpu_rows", f"{caller}: x").slopes(x, weight, index)
    picked = None if index is None else arrays.array_of(index)
    return torch.from_numpy(rows.array_slopes(arrays.array_of(x), arrays.array_of(weight), picked))


def check_beside_on_gpu(x: torch.Tensor, index: torch.Tensor | None, caller: str, **others: torch.Tensor) -> None:
    """Raise unless an index is one, and all is on the GPU that x is on: a kernel would read what it takes for there."""
    if index is not None:
        rows.check_index_form(index, x.shape, caller)
        others["index"] = index
    for name, tensor in others.items():
        if tensor.device != x.device:
            raise ValueError(f"{caller}: x is on {x.device}, but {name} is on {tensor.device}")


def check_weight_on_gpu(
    x: torch.Tensor, weight: torch.Tensor, index: torch.Tensor | None, caller: str, **others: torch.Tensor
) -> None:
    """Raise unless `weight` has a number for each of the means, and all is on the GPU that x is on."""
    check_beside_on_gpu(x, index, caller, weight=weight, **others)
    rows.check_weight(weight.shape, rows.means_shape(x, index), caller)


_NO_DERIVATIVE = "torch.ops.fastlam.{} carries no derivative here: call fastlam.mean_square"
_mean_square_alone = without_derivatives(torch.ops.fastlam.mean_square, _NO_DERIVATIVE.format("mean_square"))


def _mean_square_autograd(x: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
    if requires_grad(x) and not (has_tangent(x) or torch._C._are_functorch_transforms_active()):
        return MeanSquare.apply(x, index)
    return _mean_square_alone(x, index)


for _key in ("CPU", "CUDA"):
    _library.impl("mean_square", _mean_square, _key)
    _library.impl("mean_square_backward", _mean_square_backward, _key)
_library.impl("mean_square", _mean_square_autograd, "Autograd")
_library.impl(
    "mean_square_backward",
    without_derivatives(torch.ops.fastlam.mean_square_backward, _NO_DERIVATIVE.format("mean_square_backward")),
    "Autograd",
)


@torch.library.register_fake("fastlam::mean_square")
def _mean_square_fake(x: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
    return x.new_empty(rows.means_shape(x, index))


@torch.library.register_fake("fastlam::mean_square_backward")
def _mean_square_backward_fake(
    x: torch.Tensor, weight: torch.Tensor, index: torch.Tensor | None = None
) -> torch.Tensor:
    return x.new_empty(x.shape)


@torch.library.register_vmap("fastlam::mean_square")
def _mean_square_vmap(
    info: Any, in_dims: tuple[int | None, ...], x: torch.Tensor, index: torch.Tensor | None = None
) -> tuple[torch.Tensor, int]:
    """Leading axes are ours to have many of: a batch of x goes before its last, a batch of indices before the first."""
    in_x, in_index = in_dims[0], in_dims[1] if len(in_dims) > 1 else None
    if index is None or in_index is None:
        mean = torch.ops.fastlam.mean_square(x.movedim(cast(int, in_x), -2), index)
        return mean, mean.ndim - 1
    if in_x is None:
        return torch.ops.fastlam.mean_square(x, index.movedim(in_index, 0)), 0
    pairs = zip(x.unbind(in_x), index.unbind(in_index), strict=True)
    return torch.stack([torch.ops.fastlam.mean_square(a, b) for a, b in pairs]), 0


class MeanSquare(torch.autograd.Function):
    """s(x) = mean(x**2) over the last axis, rows picked by `index`, with its gradient in x."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, index: torch.Tensor | None) -> torch.Tensor:
        """Mean of squares of each row."""
        ctx.save_for_backward(x, index)
        return torch.ops.fastlam.mean_square(x.detach(), index)

    @staticmethod
    def backward(ctx: Any, weight: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Gradient in x: `2 x weight / n`; in plain torch where it shall be differentiated again."""
        x, index = ctx.saved_tensors
        if not differentiated_again():
            return torch.ops.fastlam.mean_square_backward(x.detach(), weight, index), None
        slopes = (2 / x.shape[-1]) * weight.unsqueeze(-1) * _picked(x, index)
        if index is None:
            return slopes, None
        flat = slopes.reshape(-1, *x.shape[1:])
        return torch.zeros_like(x).index_add(0, index.reshape(-1) % x.shape[0], flat), None


def _picked(x: torch.Tensor, index: torch.Tensor | None) -> torch.Tensor:
    return x if index is None else x[index]


def _carried(x: torch.Tensor, index: torch.Tensor | None) -> torch.Tensor:
    """s(x): the op's value, of which no transform sees the inside, plus what is 0 and differentiates as s does."""
    value = torch.ops.fastlam.mean_square(x.detach(), index)
    plain = _picked(x, index).double().square().mean(-1)
    still = plain.detach()
    zero = (plain - still).to(x.dtype)
    return torch.where(still.isfinite(), value + zero, plain.to(x.dtype))  # infinity - infinity is not 0


def _mean(x: torch.Tensor, index: torch.Tensor | None, caller: str) -> torch.Tensor:
    if under_transform():
        return _carried(x, index)
    if requires_grad(x):
        return MeanSquare.apply(x, index)
    return _undifferentiated(x, index, caller)


def _undifferentiated(x: torch.Tensor, index: torch.Tensor | None, caller: str) -> torch.Tensor:
    """The op; without its dispatch, which costs as much as a small call, where nothing could be listening."""
    if type(x) in _PLAIN and not (x.is_meta or observed()):
        return _means(x, index, caller)
    return torch.ops.fastlam.mean_square(x.detach(), index)


def check_index(index: Any, x: torch.Tensor, caller: str) -> torch.Tensor | None:
    """`index` as a tensor of integers beside x."""
    if index is None:
        return None
    if not isinstance(index, torch.Tensor):
        if not torch.compiler.is_compiling():  # which sees no NumPy dtypes
            return torch.from_numpy(rows.check_index(index, tuple(x.shape), caller)).to(x.device)
        index = torch.as_tensor(index)
    arrays.check_beside(index, x, "index", caller)
    rows.check_index_form(index, x.shape, caller)
    index = index if index.dtype in (torch.int64, torch.int32) else index.long()
    return index if index.device == x.device else index.to(x.device)  # a scalar


def check_lam(lam: Any, x: torch.Tensor, mean: torch.Tensor, caller: str) -> torch.Tensor | float:
    """`lam` in the dtype of x, of a shape that leaves the answer's alone."""
    if type(lam) is float:
        return lam
    if not isinstance(lam, torch.Tensor):
        if torch.compiler.is_compiling():
            lam = torch.as_tensor(arrays.check_lam_type(lam, caller, "a tensor"))
        else:
            numbers = arrays.lam_array(lam, arrays.dtype_name(x), caller, "a tensor")
            if numbers.size == 1:  # a GPU has it by the launch
                return float(numbers.reshape(()))
            lam = torch.from_numpy(numbers).to(x.device)
    elif (lam.ndim == 0 and lam.dtype == x.dtype and lam.layout == torch.strided) and (
        lam.is_cpu or lam.device == x.device
    ):  # as in training
        return lam
    arrays.check_beside(lam, x, "lam", caller)
    arrays.check_lam_dtype(lam, caller)
    return arrays.fit_lam(lam, mean.shape, caller).to(x.dtype)


def mean_square(x: torch.Tensor, lam: Any, index: Any, caller: str = "mean_square") -> torch.Tensor:
    """`fastlam.mean_square` for tensors."""
    if _is_tracing():
        return _recorded(x, lam, index, caller)[0]
    rows.check_rows(x, caller)
    mean = _mean(x, check_index(index, x, caller), caller)
    return check_lam(lam, x, mean, caller) * mean


def mean_square_value_and_grad(
    x: torch.Tensor, lam: Any, index: Any, caller: str = "mean_square_value_and_grad"
) -> tuple[torch.Tensor, torch.Tensor]:
    """`fastlam.mean_square_value_and_grad` for tensors."""
    if _is_tracing():
        value, grad = _recorded(x.detach(), lam, index, caller)
        return value.detach(), grad
    value, grad = _value_and_grad(x, lam, index, caller)
    words = f"{caller} carries no derivatives: call mean_square"
    return refusing(value, words, x, lam), refusing(grad, words, x)


def _value_and_grad(x: torch.Tensor, lam: Any, index: Any, caller: str) -> tuple[torch.Tensor, torch.Tensor]:
    rows.check_rows(x, caller)
    with torch.no_grad():
        grad = _undifferentiated(x, check_index(index, x, caller), caller)
        return check_lam(lam, x, grad, caller) * grad, grad


def _recorded(x: torch.Tensor, lam: Any, index: Any, caller: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(value, mean) as torch.jit.trace shall keep them: the operations alone, for any input.

    The checks are done first and not recorded, since it warns of each that it may hold for this input only. The op
    checks x and index again whenever the trace runs.
    """
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        _value_and_grad(x, lam, index, caller)
        if not isinstance(index, (torch.Tensor, NoneType)):
            index = torch.from_numpy(np.asarray(index).astype(np.int64))
        if index is not None:
            index = index.to(x.device)
        if not isinstance(lam, (torch.Tensor, float)):
            lam = torch.from_numpy(arrays.lam_array(lam, arrays.dtype_name(x), caller, "a tensor")).to(x.device)
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]
    index = index if index is None else index.long()
    mean = _carried(x, index) if under_transform() else torch.ops.fastlam.mean_square(x, index)
    if isinstance(lam, torch.Tensor):
        lam = (lam.reshape(()) if lam.ndim > mean.ndim else lam).to(x.dtype)
    return lam * mean, mean


def outside_graphs(function: Callable[P, R]) -> Callable[P, R]:
    """Let torch.compile break its graph at a call of `function`, none of whose inside it can see.

    As torch.compiler.disable, which however imports torch._dynamo, a second's work, as soon as it decorates.
    """
    alone = torch._disable_dynamo(function)  # type: ignore[attr-defined]  # the same, with that import in its first call

    @functools.wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            torch._dynamo.graph_break()  # with fullgraph=True an error, which shows this line: call it outside
            return alone(*arguments, **named)
        return function(*arguments, **named)

    return call


class LambdaModel(torch.nn.Module):
    """The model `k = lam * mean(x**2)` with the one parameter `lam`.

    Parameters
    ----------
    lam : float
        Where training starts.
    dtype : torch.dtype, optional
        Of the parameter; torch's default dtype by default.

    Examples
    --------
    >>> import torch, fastlam
    >>> model = fastlam.LambdaModel(lam=0.5)
    >>> model(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([1.2500, 6.2500], grad_fn=<MulBackward0>)
    """

    def __init__(self, lam: float = 0.0, *, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if isinstance(lam, bool) or not isinstance(lam, (int, float, np.number, np.ndarray, torch.Tensor)):
            raise TypeError(f"LambdaModel: lam must be a number, but is {lam!r}")
        self.lam = torch.nn.Parameter(torch.tensor(float(lam), dtype=dtype or torch.get_default_dtype()))

    def forward(self, x: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        """`fastlam.mean_square(x, self.lam, index=index)`: shape `x.shape[:-1]`, or `index.shape + x.shape[1:-1]`."""
        if (kind := arrays.kind(x, "LambdaModel: x")) != "torch":
            raise TypeError(
                f"LambdaModel: x must be a tensor, but is a {arrays.WHOSE[kind]} array: pass torch.as_tensor(x)"
            )
        return mean_square(x, self.lam, index, "LambdaModel")
