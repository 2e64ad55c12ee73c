"""torch: Monte Carlo means of paths that are never stored, differentiable in the parameters of what makes them.

The op gives a table: means, their derivatives in the parameters asked for, standard errors. `attach` makes of it a
tensor that differentiates by those derivatives, once. A second derivative raises.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch.autograd import forward_ad

from fastlam.autograd import under_transform
from fastlam.elements import constant, record
from fastlam.one_pass import mean_table
from fastlam.stream import Stream, time_grid

_library = torch.library.Library("fastlam", "FRAGMENT")
_library.define(
    "simulate_mean(Tensor theta, Tensor times, int dynamics, int payoff, int[] wanted, int n_paths, int[] stream, "
    "bool antithetic, str real, bool stderr) -> Tensor"
)


def _simulate_mean_cpu(
    theta: torch.Tensor, times: torch.Tensor, dynamics: int, payoff: int, wanted: list[int], n_paths: int,
    stream: list[int], antithetic: bool, real: str, stderr: bool,
) -> torch.Tensor:  # fmt: skip
    seed, first = (low + (high << 32) for low, high in (stream[:2], stream[2:]))
    which = Stream(seed, first, n_paths, antithetic, real)
    grid = time_grid("simulate_mean", times)
    rows = mean_table(record(dynamics), record(payoff), theta.detach().numpy(), tuple(wanted), grid, which, stderr)
    return torch.from_numpy(np.ascontiguousarray(rows))


def table(
    theta: torch.Tensor, times: torch.Tensor, dynamics: int, payoff: int, wanted: tuple[int, ...],
    which: Stream, stderr: bool,
) -> torch.Tensor:  # fmt: skip
    """`one_pass.mean_table` as a tensor without derivatives, (1 + len(wanted) + stderr, m) float64."""
    plain = not (torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or under_transform())
    op = _simulate_mean_cpu if plain else torch.ops.fastlam.simulate_mean
    words = [part for number in (which.seed, which.first_path) for part in (number % 2**32, number >> 32)]
    numbers = list(wanted), which.n_paths, words, which.antithetic, which.real, stderr
    return cast(torch.Tensor, op(theta.detach(), times, dynamics, payoff, *numbers))


_library.impl("simulate_mean", _simulate_mean_cpu, "CPU")


@torch.library.register_fake("fastlam::simulate_mean")
def _simulate_mean_fake(
    theta: torch.Tensor, times: torch.Tensor, dynamics: int, payoff: int, wanted: list[int], *others: Any
) -> torch.Tensor:
    return times.new_empty((1 + len(wanted) + others[-1], times.shape[0]), dtype=torch.float64)


@torch.library.register_vmap("fastlam::simulate_mean")
def _simulate_mean_vmap(
    info: Any, in_dims: tuple[int | None, ...], theta: torch.Tensor, times: torch.Tensor, *others: Any
) -> tuple[torch.Tensor, int]:
    """A run for each of the batch."""
    thetas = _unbound(theta, in_dims[0], info.batch_size)
    grids = _unbound(times, in_dims[1], info.batch_size)
    runs = [torch.ops.fastlam.simulate_mean(a, b, *others) for a, b in zip(thetas, grids, strict=True)]
    return torch.stack(runs), 0


def _unbound(tensor: torch.Tensor, dim: int | None, size: int) -> Any:
    return [tensor] * size if dim is None else tensor.unbind(dim)


class _Once(torch.autograd.Function):
    """The derivatives, as what cannot be differentiated again: never a zero without a word."""

    generate_vmap_rule = True

    @staticmethod
    def forward(theta: torch.Tensor, jacobian: torch.Tensor) -> torch.Tensor:
        return jacobian.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError(SECOND_ORDER)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(SECOND_ORDER)


SECOND_ORDER = "pathwise derivatives are of first order: a second derivative in parameters of a simulation is not known"


class _Attach(torch.autograd.Function):
    """value (m,), with jacobian (K, m) as its derivative in theta (K,)."""

    @staticmethod
    def forward(theta: torch.Tensor, value: torch.Tensor, jacobian: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0], inputs[2])
        ctx.save_for_forward(inputs[0], inputs[2])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _Once.apply(*ctx.saved_tensors) @ grads[0], None, None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return tangents[0] @ _Once.apply(*ctx.saved_tensors)  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        each = [_unbound(tensor, dim, info.batch_size) for tensor, dim in zip(inputs, in_dims, strict=True)]
        return torch.stack([_Attach.apply(*one) for one in zip(*each, strict=True)]), 0  # type: ignore[no-untyped-call]


class _AttachCompiled(torch.autograd.Function):
    """The same where torch.compile traces: it takes no Function with a jvp, and its graphs differentiate once."""

    generate_vmap_rule = True

    @staticmethod
    def forward(theta: torch.Tensor, value: torch.Tensor, jacobian: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (jacobian,) = ctx.saved_tensors
        return jacobian @ grads[0], None, None


def attach(theta: torch.Tensor, value: torch.Tensor, jacobian: torch.Tensor, wanted: tuple[int, ...]) -> torch.Tensor:
    """`value` (m,), whose derivatives in theta[wanted] are the rows of `jacobian`."""
    if not wanted:
        return value
    some = theta[list(wanted)]
    if not torch.compiler.is_compiling():
        return cast(torch.Tensor, _Attach.apply(some, value, jacobian))  # type: ignore[no-untyped-call]
    if _differentiating():
        raise NotImplementedError(
            "torch.func's derivatives of a simulation cannot be compiled: leave torch.compile out"
        )
    return cast(torch.Tensor, _AttachCompiled.apply(some, value, jacobian))  # type: ignore[no-untyped-call]


@constant
def _differentiating() -> bool:
    """Is one of torch.func's derivatives, or forward-mode AD, at work?"""
    stack = torch._C._functorch.get_interpreter_stack() or []
    kinds = torch._C._functorch.TransformType
    return forward_ad._current_level >= 0 or any(i.key() in (kinds.Grad, kinds.Jvp) for i in stack)
