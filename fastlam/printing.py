"""SymPy expressions as compiled elements: printed as Python that keeps the kernels' rules, then given to numba.

A product and a sum are joined by an explicit fma, and what a sum outside may follow is rounded on its own, so that no
compiler has a choice to make. Constants take the type of an argument: one text serves float32 and float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import sympy
from numba import njit

from fastlam.elements import Element
from fastlam.kernels import exponential, floats, logarithm, power, selection
from fastlam.opaque import Opaque, Share, Sign, Where, sealed

_SCOPE: dict[str, Any] = {
    **{name: getattr(floats, name) for name in ("fma", "product")},
    **{name: getattr(exponential, name) for name in ("exp", "exprel", "exprel_slope")},
    "log": logarithm.log,
    "power": power.power,
    **{name: getattr(selection, name) for name in ("maximum", "minimum", "where_positive", "share_positive")},
    **{name: getattr(math, name) for name in ("sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh")},
}


def compose(
    name: str,
    arguments: str,
    tuples: Mapping[str, Sequence[sympy.Symbol]],
    answers: Sequence[Any],
    single: bool = False,
) -> Element:
    """Compile a function that returns the expressions `answers`, as a tuple, or alone if `single`.

    `arguments` are its arguments, the first of them a number of the type that all shall have; `tuples` says of which
    symbols those consist that are tuples.
    """
    text = _Text(arguments.partition(",")[0])
    parts, results = sympy.cse(
        [_masked(sealed(sympy.sympify(a))) for a in answers], symbols=sympy.numbered_symbols("s_"), order="none"
    )
    used = set().union(*(e.free_symbols for e in (*results, *(part for _, part in parts))))
    lines = [f"def {name}({arguments}):"]
    lines += [
        f"{symbol} = {text.real(f'{of}[{k}]')}"
        for of, symbols in tuples.items()
        for k, symbol in enumerate(symbols)
        if symbol in used
    ]
    lines += [f"{symbol} = {text.rounded(part)}" for symbol, part in parts]
    values = [text.rounded(result) for result in results]
    lines.append(f"return {values[0]}" if single else "return (" + "".join(f"{value}, " for value in values) + ")")
    scope = dict(_SCOPE)
    exec(compile("\n    ".join(lines), f"<fastlam {name}>", "exec"), scope)
    return njit(inline="always")(scope[name])


def _masked(e: Any) -> Any:
    """Products with a Where, Share or Sign as that of a product: 0 where it is, whatever the rest is there."""
    if not e.args:
        return e
    arguments = [_masked(argument) for argument in e.args]
    if isinstance(e, Sign):
        (u,) = arguments
        return Where(u, sympy.S.One) + Where(-u, sympy.S.NegativeOne)
    if not e.is_Mul:
        return e if tuple(arguments) == e.args else e.func(*arguments)
    masks = [factor for factor in e.args if isinstance(factor, (Where, Share, Sign))]
    rest = e.func(*[masked for factor, masked in zip(e.args, arguments, strict=True) if factor not in masks])
    for mask in masks:
        u, *value = map(_masked, mask.args)
        rest = mask.func(u, rest * value[0]) if value else Where(u, rest) + Where(-u, -rest)
    return rest


class _Text:
    """The text of expressions, in Python, of the type of the variable `anchor`."""

    def __init__(self, anchor: str) -> None:
        self.anchor = anchor

    def real(self, text: str) -> str:
        """A value converted to the type."""
        return f"type({self.anchor})({text})"

    def rounded(self, e: Any) -> str:
        """The text of an expression; a product is rounded on its own, so that no compiler joins it to a sum."""
        if isinstance(e, (sympy.Mul, sympy.Pow)) and not e.is_number:
            a, b = self._factors(e)
            return f"product({a}, {b})" if b else a
        return self.operand(e)

    def operand(self, e: Any) -> str:
        """The text of an expression as an argument or factor."""
        if e.is_Symbol:
            return str(e)
        if e.is_number:
            return self.real(repr(float(e)))
        if isinstance(e, sympy.Add):
            return self._sum(e)
        if isinstance(e, (sympy.Mul, sympy.Pow)):
            a, b = self._factors(e)
            return f"({a} * {b})" if b else a
        return self._call(e)

    def _sum(self, e: Any) -> str:
        """A chain of fma over the products, begun with what is none."""
        terms = sorted(e.args, key=sympy.default_sort_key)
        products = [term for term in terms if self._is_product(term)]
        plain = [term for term in terms if term not in products] or [products.pop(0)]
        total = " + ".join(map(self.rounded, plain))
        for term in products:
            a, b = self._factors(term)
            total = f"fma({a}, {b}, {total})"
        return total if products else f"({total})"

    def _is_product(self, e: Any) -> bool:
        return isinstance(e, (sympy.Mul, sympy.Pow)) and not e.is_number and self._factors(e)[1] != ""

    def _factors(self, e: Any) -> tuple[str, str]:
        """Two operands whose product is e; the second is "" where e is a quotient, a root or another function."""
        over: list[str] = []
        under: list[str] = []
        for factor in e.args if e.is_Mul else (e,):
            base, exponent = factor.as_base_exp() if not factor.is_number else (factor, sympy.S.One)
            negative = exponent < 0
            (under if negative else over).extend(self._powers(base, -exponent if negative else exponent))
        if under:
            return f"({self._product(over) or self.real('1.0')} / {self._product(under)})", ""
        return (self._product(over[:-1]), over[-1]) if len(over) > 1 else (over[0], "")

    def _product(self, factors: list[str]) -> str:
        return f"({' * '.join(factors)})" if len(factors) > 1 else "".join(factors)

    def _powers(self, base: Any, exponent: Any) -> list[str]:
        """Factors whose product is base**exponent, for half of an integer that is not negative."""
        x = self.operand(base)
        whole = int(exponent)
        return [*([self._power(x, whole // 2)] * 2 if whole > 1 else []), *([x] if whole % 2 else []),
                *([f"sqrt({x})"] if exponent != whole else [])]  # fmt: skip

    def _power(self, x: str, n: int) -> str:
        half = self._power(x, n // 2) if n > 1 else ""
        return x if n == 1 else self._product([half, half, *([x] if n % 2 else [])])

    def _call(self, e: Opaque) -> str:
        return f"{e.text}({', '.join(map(self.rounded, e.args))})"
