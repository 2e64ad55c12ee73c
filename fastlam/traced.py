"""What stands for a number as an element is run on symbols: it knows arithmetic, and cannot be asked what it is.

A SymPy expression can: `x == 0` is False, and `if x:` is true, whatever x may be, so that a branch would be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import sympy


class Traced:
    """A SymPy expression of an element's arguments."""

    __array_ufunc__ = None  # NumPy's numbers leave arithmetic to it

    def __init__(self, expression: Any) -> None:
        self.expression = expression

    def __add__(self, other: Any) -> Any:
        return traced(self.expression + bare(other))

    def __sub__(self, other: Any) -> Any:
        return traced(self.expression - bare(other))

    def __mul__(self, other: Any) -> Any:
        return traced(self.expression * bare(other))

    def __truediv__(self, other: Any) -> Any:
        return traced(self.expression / bare(other))

    def __pow__(self, other: Any) -> Any:
        return traced(self.expression ** bare(other))

    def __radd__(self, other: Any) -> Any:
        return traced(bare(other) + self.expression)

    def __rsub__(self, other: Any) -> Any:
        return traced(bare(other) - self.expression)

    def __rmul__(self, other: Any) -> Any:
        return traced(bare(other) * self.expression)

    def __rtruediv__(self, other: Any) -> Any:
        return traced(bare(other) / self.expression)

    def __rpow__(self, other: Any) -> Any:
        return traced(bare(other) ** self.expression)

    def __neg__(self) -> Any:
        return traced(-self.expression)

    def __pos__(self) -> Any:
        return self

    def __bool__(self) -> NoReturn:
        raise TypeError(f"it branches on {self.expression}")

    def _compare(self, other: Any) -> NoReturn:
        raise TypeError(f"it compares {self.expression} with {bare(other)}")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _compare
    __hash__ = None  # type: ignore[assignment]


def traced(value: Any) -> Any:
    """The value, or tuple of values, as elements may have it: a constant as it is."""
    if isinstance(value, (tuple, list)):
        return tuple([traced(one) for one in value])
    return Traced(value) if isinstance(value, sympy.Basic) and value.free_symbols else value


def bare(value: Any) -> Any:
    """The SymPy expression, or tuple of them, of what elements have."""
    if isinstance(value, (tuple, list)):
        return tuple([bare(one) for one in value])
    if isinstance(value, np.generic):
        return value.item()
    return value.expression if isinstance(value, Traced) else value


def lifted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of SymPy expressions, for elements to call."""
    return lambda *arguments: traced(function(*bare(arguments)))
