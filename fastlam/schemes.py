"""Diffusions and functionals given as expressions, made elements.

What of a scheme's step depends on no path is a coefficient, computed once for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy

from fastlam.derivatives import DT, T, X, Z, symbols
from fastlam.elements import Element
from fastlam.expressions import read
from fastlam.opaque import Fma, sealed
from fastlam.printing import compose

X0 = sympy.Symbol("x0", real=True)


def elements(drift: Any, diffusion: Any, names: tuple[str, ...], scheme: str) -> tuple[Element, Element, int]:
    """(step, coefficients, their number) of `dX = drift dt + diffusion dW` with parameters of these names."""
    theta = symbols("theta", len(names))
    known = {"x": X, "t": T, **dict(zip(names, theta, strict=True)), "x0": X0}
    mu, sigma = _rate(drift, known, "drift"), _rate(diffusion, known, "diffusion")
    once = _Hoist()
    pull, scale = once(mu * DT), once(sigma * sympy.sqrt(DT))
    if scheme == "milstein":
        curvature = once(sigma * sigma.diff(X) * DT / 2)
        if curvature != 0:
            pull = Fma(curvature, Fma(Z, Z, sympy.S.NegativeOne), pull)
    c = symbols("c", len(once.coefficients))
    after = (X + Fma(scale, Z, pull)).subs(dict(zip(once.coefficients.values(), c, strict=True)))
    step = compose("step", "x, z, c", {"c": c}, [after], single=True)
    coefficients = compose("coefficients", "t, dt, theta", {"theta": theta}, list(once.coefficients))
    return step, coefficients, len(c)


def _rate(expression: Any, known: Mapping[str, sympy.Symbol], name: str) -> Any:
    rate = read(expression, known, f"Diffusion: {name}")
    if X0 in rate.free_symbols:
        raise ValueError(
            f"Diffusion: {name} has x0, the state at time 0, which steps do not know: give its value another name too"
        )
    return sealed(rate)


def functional(expression: Any, names: tuple[str, ...]) -> Element:
    """value(x, parameters) of a functional with parameters of these names."""
    theta = symbols("theta", len(names))
    outcome = read(expression, {"x": X, **dict(zip(names, theta, strict=True))}, "Functional: expression")
    return compose("value", "x, theta", {"theta": theta}, [sealed(outcome)], single=True)


class _Hoist:
    """Replaces the largest parts of expressions that no path changes by symbols, and keeps them as coefficients."""

    def __init__(self) -> None:
        self.coefficients: dict[Any, sympy.Symbol] = {}

    def __call__(self, e: Any) -> Any:
        """The expression, its path-independent parts replaced."""
        if not e.free_symbols & {X, Z}:
            return e if e.is_number else self.coefficients.setdefault(e, sympy.Dummy(real=True))
        if e.is_Add or e.is_Mul:
            fixed, moving = e.as_independent(X, Z, as_Add=e.is_Add)
            return e.func(self(fixed), *map(self, e.func.make_args(moving)))
        return e.func(*map(self, e.args)) if e.args else e
