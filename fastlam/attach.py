"""torch: values whose derivatives were computed with them, as tensors that differentiate by those, once.

A second derivative raises: never a zero without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch.autograd import forward_ad

from fastlam.elements import constant

SECOND_ORDER = "pathwise derivatives are of first order: a second derivative in parameters of a simulation is not known"
COMPILED = "forward-mode and torch.func's derivatives of a mean cannot be compiled: leave torch.compile out"


class _Refused(torch.autograd.Function):
    """A value whose derivatives in what it depends on raise, with these words."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: torch.Tensor, words: str, *depends_on: Any) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.words = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError(ctx.words)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(ctx.words)


def refusing(value: torch.Tensor, words: str, *depends_on: Any) -> torch.Tensor:
    """The value, which carries no graph; under a transform, which would take its derivatives for 0, they raise."""
    if check_compiled() or not under_transform():
        return value
    return cast(torch.Tensor, _Refused.apply(value, words, *depends_on))


def first_order(slopes: torch.Tensor, *depends_on: Any) -> torch.Tensor:
    """Derivatives, as what cannot be differentiated again in what they depend on; themselves where nobody could."""
    if not differentiated_again():
        return slopes
    return cast(torch.Tensor, _Refused.apply(slopes, SECOND_ORDER, *depends_on))


def differentiated_again() -> bool:
    """In a backward: may anything differentiate what it gives?"""
    return torch.is_grad_enabled() or under_transform()


def _product(jacobian: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """Jacobian (K, ...) times grad (...), summed over all of it; torch's old vmap cannot reshape grad."""
    if jacobian.ndim == 2:
        return jacobian @ grad
    others = tuple(range(1, jacobian.ndim))
    return (jacobian * grad).sum(others) if others else jacobian * grad  # a sum over no axes is one over all


class _Attach(torch.autograd.Function):
    """value (...), with jacobian (K, ...), which `other` changes too, as its derivative in theta (K,)."""

    @staticmethod
    def forward(theta: torch.Tensor, value: torch.Tensor, jacobian: torch.Tensor, other: Any) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        theta, _, jacobian, other = inputs
        ctx.save_for_backward(jacobian, theta, other)
        ctx.save_for_forward(jacobian, theta, other)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _product(first_order(*ctx.saved_tensors), grads[0]), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        slopes = first_order(*ctx.saved_tensors)
        return (tangents[0] @ slopes.reshape(len(slopes), -1)).reshape(slopes.shape[1:])

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return by_loop(_Attach.apply)(info, in_dims, *inputs)


class _AttachPlain(torch.autograd.Function):
    """The same where no transform is at work, in `dtype`: torch takes a fifth of the time for a Function of this form.

    The elements of the parameters, one tensor after the other, are what the rows of the jacobian are derivatives in:
    gradients go to them, not through a vector. `depends_on`, made for this call, is what the jacobian changes with: the
    parameters may be moved, cut from the graph, or given another shape before the backward.
    """

    @staticmethod
    def forward(
        ctx: Any, value: torch.Tensor, jacobian: torch.Tensor, dtype: torch.dtype,
        depends_on: tuple[torch.Tensor | None, ...], *parameters: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        ctx.save_for_backward(jacobian, *depends_on)
        ctx.forms = [(parameter.shape, parameter.device, parameter.dtype) for parameter in parameters]
        return value.to(dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        slopes = _product(first_order(*ctx.saved_tensors), grads[0].double())
        parts = slopes.split([shape.numel() for shape, _, _ in ctx.forms])
        each = zip(parts, ctx.forms, strict=True)
        return None, None, None, None, *[part.reshape(shape).to(device, dtype) for part, (shape, device, dtype) in each]


# Where torch.compile traces, it sees an op: it takes no Function with a jvp, and runs a traced one's backward so that
# what is differentiated again has lost all that it depends on.
_library = torch.library.Library("fastlam", "FRAGMENT")
_library.define("attach(Tensor theta, Tensor value, Tensor jacobian, Tensor? other) -> Tensor")


def _value(theta: torch.Tensor, value: torch.Tensor, jacobian: torch.Tensor, other: Any) -> torch.Tensor:
    return value.clone()


def _attached(theta: torch.Tensor, value: torch.Tensor, jacobian: torch.Tensor, other: Any) -> torch.Tensor:
    return cast(torch.Tensor, _AttachPlain.apply(value, jacobian, value.dtype, (theta, other), theta))


_library.impl("attach", _value, "CompositeExplicitAutograd")
_library.impl("attach", _attached, "Autograd")


def _picked(theta: torch.Tensor, wanted: tuple[int, ...]) -> torch.Tensor:
    """theta[wanted], for which a GPU would wait for a copy of the positions."""
    parts = theta.unbind()
    return torch.stack([parts[p] for p in wanted])


def attach(
    theta: torch.Tensor, values: Sequence[Any], wanted: tuple[int, ...], table: torch.Tensor, dtype: torch.dtype,
    other: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """table[0] (...) in `dtype`, whose derivatives in theta[wanted] are table[1 : 1 + len(wanted)], float64.

    `other` changes these too. Theta is the vector (K,) of the values, numbers or tensors of one element: derivatives go
    through it under transforms and compilers, else to the values themselves.
    """
    value, jacobian = table[0], table[1 : 1 + len(wanted)]
    if not wanted:
        return value.to(dtype)
    compiling = check_compiled()
    if not (compiling or under_transform()):
        parameters = [values[p] for p in wanted]
        return cast(torch.Tensor, _AttachPlain.apply(value, jacobian, dtype, (theta, other), *parameters))
    some = theta if len(wanted) == len(theta) else _picked(theta, wanted)
    function: Callable[..., torch.Tensor] = torch.ops.fastlam.attach if compiling else _Attach.apply
    return function(some, value, jacobian, other).to(dtype)


def under_transform() -> bool:
    """Is a torch.func transform or forward-mode AD at work?"""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def observed() -> bool:
    """Is anything at work that must see ops: a compiler, a dispatch mode, a transform? Else they may be left out."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0 or under_transform()


def requires_grad(tensor: torch.Tensor) -> bool:
    """Does a graph grow on this tensor?"""
    return tensor.requires_grad and torch.is_grad_enabled()


def has_tangent(tensor: torch.Tensor) -> bool:
    """Has this tensor a tangent of forward-mode AD?"""
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None


def check_compiled() -> bool:
    """Is torch.compile tracing? Raise NotImplementedError if it traces one of torch.func's derivatives."""
    compiling = torch.compiler.is_compiling()
    if compiling and _differentiating():
        raise NotImplementedError(COMPILED)
    return compiling


@constant
def traced_transform() -> bool:
    """Is code that torch.compile traces under a torch.func transform, or forward-mode AD?"""
    return under_transform()


@constant
def _differentiating() -> bool:
    """Is one of torch.func's derivatives, or forward-mode AD, at work?"""
    stack = torch._C._functorch.get_interpreter_stack() or []
    kinds = torch._C._functorch.TransformType
    return forward_ad._current_level >= 0 or any(i.key() in (kinds.Grad, kinds.Jvp) for i in stack)


def plain(tensor: torch.Tensor, tracked: bool) -> torch.Tensor:
    """The tensor for an op without derivatives: detached, but where a compiled graph may later meet a tangent."""
    return tensor if torch.compiler.is_compiling() and not tracked else tensor.detach()


def without_derivatives(op: Callable[..., torch.Tensor], words: str) -> Callable[..., torch.Tensor]:
    """The Autograd rule of an op that has no derivatives: raise where torch would take them for zero."""

    def rule(*arguments: Any) -> torch.Tensor:
        tensors = [argument for argument in arguments if isinstance(argument, torch.Tensor)]
        if any(requires_grad(tensor) or has_tangent(tensor) for tensor in tensors):
            raise NotImplementedError(words)
        with torch._C._AutoDispatchBelowAutograd():
            return op(*arguments)

    return rule


def by_loop(function: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    """The rule of `torch.vmap` that calls the function for each of a batch."""

    def rule(info: Any, in_dims: Any, *inputs: Any) -> tuple[torch.Tensor, int]:
        each = [
            value.unbind(dim) if isinstance(value, torch.Tensor) and dim is not None else [value] * info.batch_size
            for value, dim in zip(inputs, in_dims, strict=True)
        ]
        return torch.stack([function(*one) for one in zip(*each, strict=True)]), 0

    return rule


torch.library.register_vmap("fastlam::attach", by_loop(torch.ops.fastlam.attach))
