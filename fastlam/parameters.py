"""Parameters of diffusions and functionals: numbers or tensors of one element, checked, and gathered in one vector."""

from __future__ import annotations

import keyword
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fastlam.attach import has_tangent, requires_grad, traced_transform
from fastlam.elements import Dynamics


def checked(name: str, value: Any, least: float | None = None) -> Any:
    """`value` as a float, or as the tensor that it is; raise TypeError or ValueError for anything else.

    A tensor may change until it is used, and may be traced here: its value is checked again there.
    """
    if isinstance(value, torch.Tensor):
        if value.is_complex() or value.dtype == torch.bool or value.numel() != 1 or value.layout != torch.strided:
            raise TypeError(f"{name} must be one real number, but is a tensor of {tuple(value.shape)} {value.dtype}")
        if _readable(value):
            check_value(name, value.item(), least)
        return value
    if torch.compiler.is_compiling():  # which sees no NumPy, nor a number's value: that is checked where it is used
        return float(value) if type(value) in (float, int) else checked(name, torch.as_tensor(value), least)
    try:
        if isinstance(value, (str, bytes, bool, np.bool_, complex, np.complexfloating)) or (
            np.ndim(value) > 0 and np.size(value) != 1
        ):
            raise TypeError
        number = float(np.asarray(value).item()) if isinstance(value, np.ndarray) else float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be one real number, but is {value!r}") from None
    except OverflowError:
        raise ValueError(f"{name} must be finite, but is too large for float64") from None
    check_value(name, number, least)
    return number


def named_parameters(kind: str, parameters: Any, reserved: tuple[str, ...]) -> dict[str, Any]:
    """The parameters, checked: names that can stand in an expression, finite real numbers or tensors of one."""
    if not isinstance(parameters, Mapping):
        raise TypeError(f"{kind}: parameters must be a mapping of names to numbers, but is {parameters!r}")
    for name in parameters:
        if not isinstance(name, str) or not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
            raise ValueError(f"{kind}: parameters has the name {name!r}, which must be an identifier")
        if name in reserved:
            raise ValueError(f"{kind}: parameters has the name {name!r}, which stands for something else")
    return {name: checked(f"{kind}: {name}", value) for name, value in parameters.items()}


class ByArguments:
    """What is equal, copied and pickled by the arguments that made it: a record's handle is of one Python process."""

    def arguments(self) -> tuple[Any, ...]:
        """What `type(self)(*arguments)` makes it again from."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Any]:
        """Parameters by name."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _same(other.arguments(), self.arguments())

    def __hash__(self) -> int:
        return hash((type(self), *sorted(self.parameters())))  # tensors may change

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.arguments()


def _same(a: Any, b: Any) -> bool:
    """Is a equal to b, and arrays and tensors in them of one kind and in each of their elements?"""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    shape, other = (tuple(getattr(value, "shape", ())) for value in (a, b))
    if shape != other or (shape and (type(a), a.device) != (type(b), b.device)):  # which may not compare
        return False
    equal = a is b or a == b
    return bool(equal.all() if shape and equal is not True else equal)


def check_expression(name: str, expression: Any) -> None:
    """Raise TypeError for what a cache cannot hold: none of the kinds of an expression is so."""
    if not isinstance(expression, Hashable):
        raise TypeError(f"{name} must be text, a SymPy expression or a real number, but is {expression!r}")


def _readable(tensor: torch.Tensor) -> bool:
    """Can the value be had here and now, without a transform, a trace or a device between?"""
    if torch.compiler.is_compiling() or not tensor.is_cpu or torch._C._len_torch_dispatch_stack():
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def check_value(name: str, number: float, least: float | None) -> None:
    """Raise ValueError unless `number` is finite and at least `least`."""
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, but is {number}")
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least:g}, but is {number}")


CPU = torch.device("cpu")  # whatever torch's default device is


def vector(
    name: str, names: Sequence[str], values: Sequence[Any], device: torch.device = CPU, beside: str = "times"
) -> torch.Tensor:
    """The parameters' values (K,) in float64 on the device of `beside`, differentiable in those that are tensors."""
    if not names:
        return torch.empty(0, dtype=torch.float64, device=device)
    return torch.stack([_scalar(name, key, value, device, beside) for key, value in zip(names, values, strict=True)])


def _scalar(name: str, key: str, value: Any, device: torch.device, beside: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):  # a GPU has a number by a launch: a copy would be waited for
        return torch.full((), value, dtype=torch.float64, device=device)
    scalar = value.reshape(()).double()
    if value.device == device:
        return scalar
    if not value.is_cpu:
        raise ValueError(f"{name}: {beside} is on {device}, but {key} is on {value.device}")
    return scalar * torch.ones((), dtype=torch.float64, device=device)


def contiguous(name: str, theta: torch.Tensor, count: int) -> torch.Tensor:
    """The vector, one float64 after the other, as kernels read it; ValueError unless it holds `count`."""
    if theta.shape != (count,):
        raise ValueError(f"{name}: theta must have shape {(count,)}, but has {tuple(theta.shape)}")
    return theta.detach().double().resolve_neg().contiguous()


def wanted(values: Sequence[Any]) -> tuple[int, ...]:
    """Positions of the parameters that a derivative is asked in."""
    return tuple([i for i, value in enumerate(values) if isinstance(value, torch.Tensor) and tracked(value)])


def floats(name: str, parameters: Mapping[str, Any], dynamics: Dynamics, where: str = "on cpu") -> list[float]:
    """The parameters' values, where no derivative in them is asked for; times are `where`, for messages."""
    check_untracked(name, parameters)
    numbers = []
    for (key, value), least in zip(parameters.items(), dynamics.least, strict=True):
        if isinstance(value, torch.Tensor):
            if not value.is_cpu:
                raise ValueError(f"{name}: times is {where}, but {key} is on {value.device}: pass {key}.item()")
            value = _scalar(name, key, value, CPU, "times")
        numbers.append(float(value))
        check_value(f"{name}: {key}", numbers[-1], least)
    return numbers


def check_untracked(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise TypeError where a derivative is asked for."""
    for key, value in parameters.items():
        if isinstance(value, torch.Tensor) and tracked(value):
            raise TypeError(
                f"{name}: {key} requires grad, but paths carry no gradient in it: pass {key}.item(), or "
                f"call simulate_mean"
            )


def tracked(tensor: torch.Tensor) -> bool:
    """Does anything differentiate in this tensor: a graph, a torch.func transform, forward-mode AD?"""
    if torch.compiler.is_compiling():  # in a transform it hides from whom a tensor is tracked: any may be
        return traced_transform() or requires_grad(tensor)
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        if torch._C._functorch.is_gradtrackingtensor(tensor):
            return True
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return has_tangent(tensor) or requires_grad(tensor)
