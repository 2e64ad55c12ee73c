"""The elements of a process and of a functional, as records: what loops are made of, and caches keyed by."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

Element = Callable[..., Any]


class Dynamics(NamedTuple):
    """The elements of a process, and its parameters, x0 the last, with the least value of each (None: any)."""

    step: Element
    coefficients: Element
    n_coefficients: int
    observe: Element
    names: tuple[str, ...]
    least: tuple[float | None, ...]


class Payoff(NamedTuple):
    """The elements of a functional, and its parameters."""

    value: Element
    accumulate: Element
    names: tuple[str, ...]


_makers: list[Callable[[], Any]] = []


def register(make: Callable[[], Any]) -> int:
    """The number by which torch's ops, which take no functions, know the record that `make()` returns."""
    _makers.append(lru_cache(maxsize=1)(make))
    return len(_makers) - 1


def record(handle: int) -> Any:
    """The record that was registered under this number."""
    return _makers[handle]()


def constant(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have torch.compile run the function as it traces.

    It is torch.compiler.assume_constant_result without its import of torch._dynamo, which takes a second.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
