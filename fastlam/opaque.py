"""What elements call, as SymPy functions of which it knows the slopes and nothing else.

SymPy simplifies its own whenever a tree is made anew: it loses itself in some, as in cosh((x + sqrt(t))**64), and turns
others into functions that no element is for, such as the cot of a tan. These stay as they are written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import sympy

ONE, ZERO = sympy.S.One, sympy.S.Zero


class Opaque(sympy.Function):  # type: ignore[misc]
    """A function that is printed as a call of `text`; `slopes` has its partial derivatives, of its arguments."""

    is_number = False  # SymPy cannot compute it, of numbers either
    text: str
    slopes: tuple[Callable[..., Any], ...]

    def fdiff(self, argindex: int = 1) -> Any:
        """Partial derivative."""
        return self.slopes[argindex - 1](*self.args)


def _function(text: str, *slopes: Callable[..., Any]) -> Any:
    return type(text, (Opaque,), {"nargs": max(1, len(slopes)), "text": text, "slopes": slopes})


# v where u is above 0, else 0, whatever v is there: where_positive(u, v)
Where: Any = _function("where_positive", lambda u, v: ZERO, lambda u, v: Where(u, ONE))
# v where u is above 0, v / 2 where u is 0, else 0: share_positive(u, v)
Share: Any = _function("share_positive", lambda u, v: ZERO, lambda u, v: Share(u, ONE))
Sign: Any = _function("sign", lambda u: ZERO)  # 1, -1 or 0; printed by Where
Fma: Any = _function("fma", lambda a, b, c: b, lambda a, b, c: a, lambda a, b, c: ONE)  # a * b + c, rounded once
Exp: Any = _function("exp", lambda u: Exp(u))
ExprelSlope: Any = _function("exprel_slope")
Exprel: Any = _function("exprel", lambda u: ExprelSlope(u))  # (exp(u) - 1) / u
Log: Any = _function("log", lambda u: 1 / u)
# u**p; its slope in p is 0 where u is, as it is from above for p above 0; that of max(x, 0)**p in x is masked by max's
Power: Any = _function(
    "power", lambda u, p: p * Power(u, p - 1), lambda u, p: Where(Magnitude(u), Power(u, p) * Log(u))
)
Sin: Any = _function("sin", lambda u: Cos(u))
Cos: Any = _function("cos", lambda u: -Sin(u))
Tan: Any = _function("tan", lambda u: 1 + Tan(u) ** 2)
Sinh: Any = _function("sinh", lambda u: Cosh(u))
Cosh: Any = _function("cosh", lambda u: Sinh(u))
Tanh: Any = _function("tanh", lambda u: 1 - Tanh(u) ** 2)
Magnitude: Any = _function("abs", lambda u: Sign(u))


def _above(a: Any, b: Any) -> Any:
    """The slope of the larger of both in a: half where they are equal, as torch's; beside a number 0, as relu's.

    So sqrt(max(x, 0)) has the slope 0 at 0, not infinity.
    """
    return (Where if a.is_number or b.is_number else Share)(a - b, ONE)


Maximum: Any = _function("maximum", lambda a, b: _above(a, b), lambda a, b: _above(b, a))
Minimum: Any = _function("minimum", lambda a, b: _above(b, a), lambda a, b: _above(a, b))


def maximum(*values: Any) -> Any:
    """The largest of SymPy expressions."""
    return reduce(Maximum, values)


def minimum(*values: Any) -> Any:
    """The smallest of SymPy expressions."""
    return reduce(Minimum, values)


_OPAQUE: dict[Any, Callable[..., Any]] = {
    sympy.exp: Exp,
    sympy.log: Log,
    sympy.sin: Sin,
    sympy.cos: Cos,
    sympy.tan: Tan,
    sympy.sinh: Sinh,
    sympy.cosh: Cosh,
    sympy.tanh: Tanh,
    sympy.Abs: Magnitude,
    sympy.sign: Sign,
}


def sealed(e: Any) -> Any:
    """The expression with SymPy's functions replaced by those above, powers too but those to halves of integers."""
    if not e.args:
        return e
    arguments = [sealed(argument) for argument in e.args]
    if isinstance(e, (sympy.Max, sympy.Min)):
        in_order = sorted(arguments, key=sympy.default_sort_key)
        return (maximum if isinstance(e, sympy.Max) else minimum)(*in_order)
    if e.func in _OPAQUE:
        return _OPAQUE[e.func](*arguments)
    if e.is_Pow:
        base, exponent = arguments
        if exponent.is_Float and float(2 * exponent).is_integer():
            arguments[1] = sympy.Rational(int(2 * exponent), 2)
        elif not (2 * exponent).is_integer or not exponent.is_number:
            return Power(base, exponent)
    return e if tuple(arguments) == e.args else e.func(*arguments)
