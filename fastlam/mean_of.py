"""torch: means of a functional over the rows of an array, differentiable once in the array and in the parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fastlam import parameters
from fastlam.arrays import array_of, check_float
from fastlam.attach import (
    COMPILED,
    attach,
    by_loop,
    check_compiled,
    first_order,
    observed,
    plain,
    requires_grad,
    under_transform,
    without_derivatives,
)
from fastlam.autograd import check_beside_on_gpu, check_index, check_weight_on_gpu
from fastlam.devices import gpu_part
from fastlam.elements import record
from fastlam.parameters import CPU
from fastlam.rows import array_slopes, array_terms, check_rows, means_shape

_library = torch.library.Library("fastlam", "FRAGMENT")
_library.define("mean(Tensor x, Tensor theta, Tensor? index, int payoff, int[] wanted) -> Tensor")
_library.define("mean_slopes(Tensor x, Tensor theta, Tensor weight, Tensor? index, int payoff) -> Tensor")


def _mean(
    x: torch.Tensor, theta: torch.Tensor, index: torch.Tensor | None, payoff: int, wanted: list[int]
) -> torch.Tensor:
    check_rows(x, "mean")
    functional = record(payoff)
    if x.is_cuda:
        check_beside_on_gpu(x, index, "mean", theta=theta)
        values = parameters.contiguous("mean", theta, len(functional.names))
        return gpu_part("gpu_rows", "mean: x").means(x, functional, values, tuple(wanted), index)
    picked = None if index is None else array_of(index)
    numbers = array_of(parameters.contiguous("mean", theta, len(functional.names)))
    return torch.from_numpy(array_terms(array_of(x), functional, numbers, tuple(wanted), picked))


def _mean_slopes(
    x: torch.Tensor, theta: torch.Tensor, weight: torch.Tensor, index: torch.Tensor | None, payoff: int
) -> torch.Tensor:
    from fastlam.derivatives import slope  # now: SymPy is needed for derivatives alone

    check_rows(x, "mean_slopes")
    check_float(weight, "mean_slopes: weight")
    functional = record(payoff)
    values = parameters.contiguous("mean_slopes", theta, len(functional.names))
    element = slope(functional.value, len(functional.names))
    if x.is_cuda:
        check_weight_on_gpu(x, weight, index, "mean_slopes", theta=theta)
        return gpu_part("gpu_rows", "mean_slopes: x").slopes(x, weight, index, values, element, len(functional.names))
    picked = None if index is None else array_of(index)
    slopes = array_slopes(array_of(x), array_of(weight), picked, element, array_of(values), "mean_slopes")
    return torch.from_numpy(slopes)


for _key in ("CPU", "CUDA"):
    _library.impl("mean", _mean, _key)
    _library.impl("mean_slopes", _mean_slopes, _key)
_library.impl("mean", without_derivatives(torch.ops.fastlam.mean, COMPILED), "Autograd")
_library.impl("mean_slopes", without_derivatives(torch.ops.fastlam.mean_slopes, COMPILED), "Autograd")


@torch.library.register_fake("fastlam::mean")
def _mean_fake(x: torch.Tensor, theta: torch.Tensor, index: Any, payoff: int, wanted: list[int]) -> torch.Tensor:
    return x.new_empty((1 + len(wanted), *means_shape(x, index)), dtype=torch.float64)


@torch.library.register_fake("fastlam::mean_slopes")
def _mean_slopes_fake(x: torch.Tensor, *others: Any) -> torch.Tensor:
    return x.new_empty(x.shape)


torch.library.register_vmap("fastlam::mean", by_loop(torch.ops.fastlam.mean))
torch.library.register_vmap("fastlam::mean_slopes", by_loop(torch.ops.fastlam.mean_slopes))


class _Rows(torch.autograd.Function):
    """value, with its own derivatives, and the slopes of the functional as those in x."""

    @staticmethod
    def forward(x: torch.Tensor, value: torch.Tensor, theta: torch.Tensor, index: Any, payoff: int) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, _, theta, index, ctx.payoff = inputs
        ctx.save_for_backward(x, theta, index)
        ctx.save_for_forward(x, theta, index)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, theta, index = ctx.saved_tensors
        tracked = under_transform() or requires_grad(grads[0])
        weight = grads[0].detach() if tracked else grads[0]  # torch's old vmap knows no detach
        slopes = torch.ops.fastlam.mean_slopes(x.detach(), theta.detach(), weight, index, ctx.payoff)
        return first_order(slopes, x, theta, grads[0]), grads[0], None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        x, theta, index = ctx.saved_tensors
        moved, of_value = tangents[:2]
        some, moved = (x, moved) if index is None else (x[index], moved[index])
        ones = torch.ones(some.shape[:-1], dtype=torch.float64, device=some.device)
        slopes = torch.ops.fastlam.mean_slopes(some.detach(), theta.detach(), ones, None, ctx.payoff)
        of_x = (first_order(slopes, some, theta) * moved).double().sum(-1)
        return of_x if of_value is None else of_x + of_value

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return by_loop(_Rows.apply)(info, in_dims, *inputs)


class _RowsPlain(torch.autograd.Function):
    """The same where no transform is at work, as attach's."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, value: torch.Tensor, theta: torch.Tensor, index: Any, payoff: int
    ) -> torch.Tensor:
        ctx.payoff = payoff
        ctx.save_for_backward(x, theta, index)
        return value.clone()

    backward = _Rows.backward


def _value(x: torch.Tensor, value: torch.Tensor, theta: torch.Tensor, index: Any, payoff: int) -> torch.Tensor:
    return value.clone()


# What torch.compile sees of _Rows: see attach.py.
_library.define("attach_rows(Tensor x, Tensor value, Tensor theta, Tensor? index, int payoff) -> Tensor")
_library.impl("attach_rows", _value, "CompositeExplicitAutograd")
_library.impl("attach_rows", _RowsPlain.apply, "Autograd")
torch.library.register_vmap("fastlam::attach_rows", by_loop(torch.ops.fastlam.attach_rows))


def mean(x: torch.Tensor, payoff: int, named: Mapping[str, Any], index: Any) -> torch.Tensor:
    """`fastlam.mean` for tensors, of the functional with this record and these parameters."""
    picked = check_index(index, x, "mean")
    values = tuple(named.values())
    wanted, tracked = parameters.wanted(values), parameters.tracked(x)
    theta = parameters.vector("mean", tuple(named), values, CPU if x.is_meta else x.device, "x")
    op = torch.ops.fastlam.mean if observed() or x.is_meta else _mean
    table = op(plain(x, tracked), plain(theta, bool(wanted)), picked, payoff, list(wanted))
    if not tracked:
        return attach(theta, values, wanted, table, x.dtype)
    value = attach(theta, values, wanted, table, torch.float64, x)
    if check_compiled():  # asked first: a graph that had asked for transforms would be compiled anew where one comes
        rows: Callable[..., torch.Tensor] = torch.ops.fastlam.attach_rows
    else:
        rows = _Rows.apply if under_transform() else _RowsPlain.apply
    return rows(x, value, theta, picked, payoff).to(x.dtype)
