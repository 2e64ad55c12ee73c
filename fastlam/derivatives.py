"""Derivatives of elements, by SymPy: an element is run on symbols, differentiated, printed as Python and compiled.

So nobody derives a tangent by hand, and what is printed keeps the kernels' rule: no product and sum that a compiler
could contract. Spec: finite differences in tests/test_derivatives.py.
"""

from __future__ import annotations

import math
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy

from fastlam import opaque
from fastlam.elements import Element
from fastlam.kernels import exponential, floats, logarithm, power, selection
from fastlam.kernels.launch import once
from fastlam.printing import compose
from fastlam.traced import bare, lifted, traced


def _horner(x: Any, coefficients: Sequence[Any]) -> Any:
    value = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        value = opaque.Fma(value, x, c)
    return value


def _positive(x: Any) -> Any:
    return opaque.Maximum(x, sympy.S.Zero)


def _step(x: Any) -> Any:
    return opaque.Where(x, sympy.S.One)


_MATH = {
    "pi": sympy.pi,
    "sqrt": sympy.sqrt,
    **{f.text: f for f in (opaque.Exp, opaque.Log, opaque.Sin, opaque.Cos, opaque.Tan)},
    **{f.text: f for f in (opaque.Sinh, opaque.Cosh, opaque.Tanh)},
}
_BUILTINS = {"abs": lifted(opaque.Magnitude), "max": lifted(opaque.maximum), "min": lifted(opaque.minimum)}
_ELEMENTS: list[tuple[Any, Any]] = [
    (floats.fma, opaque.Fma),
    (floats.horner, _horner),
    (floats.product, sympy.Mul),
    (exponential.exp, opaque.Exp),
    (exponential.exprel, opaque.Exprel),
    (logarithm.log, opaque.Log),
    (power.power, opaque.Power),
    (selection.positive, _positive),
    (selection.step, _step),
    (selection.maximum, opaque.Maximum),
    (selection.minimum, opaque.Minimum),
    (selection.where_positive, opaque.Where),
    (selection.share_positive, opaque.Share),
    *((getattr(math, name), value) for name, value in _MATH.items() if callable(getattr(math, name))),
]


def _symbolic(value: Any) -> Any:
    """What stands for a global of an element when it is run on symbols."""
    for element, symbol in _ELEMENTS:
        if value is element:
            return lifted(symbol)
    if value is math or value is np:
        functions = {name: lifted(symbol) if callable(symbol) else symbol for name, symbol in _MATH.items()}
        return types.SimpleNamespace(**functions, float32=_same, float64=_same)
    if any(value is kind for kind in (np.float32, np.float64, float)):
        return _same
    if hasattr(value, "py_func"):
        return lambda *arguments: _run(value, *arguments)
    return value


def _same(value: Any) -> Any:
    return value


def _type(value: Any) -> Any:
    """Elements take constants to an argument's type; symbols have none."""
    return _same


def run(element: Element, *arguments: Any) -> Any:
    """What an element (compiled by `njit`) returns for SymPy expressions: a sealed one, or a tuple of those."""
    try:
        answer = bare(_run(element, *traced(arguments)))
        if isinstance(answer, (tuple, list)):
            return tuple([opaque.sealed(sympy.sympify(value)) for value in answer])
        return opaque.sealed(sympy.sympify(answer))
    except Exception as error:
        raise TypeError(
            f"{element.__name__} cannot be differentiated ({error}): gradients need an element of arithmetic without "
            f"branches; fastlam.kernels.selection has positive, maximum and minimum"
        ) from error


def _run(element: Element, *arguments: Any) -> Any:
    function = getattr(element, "py_func", element)
    code = function.__code__
    names = {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    scope = {name: _symbolic(value) for name, value in names.items()}
    scope = {"__builtins__": __builtins__, "type": _type, **_BUILTINS, **scope}
    cells = tuple(types.CellType(_symbolic(cell.cell_contents)) for cell in function.__closure__ or ())
    return types.FunctionType(code, scope, function.__name__, function.__defaults__, cells)(*arguments)


def symbols(name: str, count: int) -> tuple[sympy.Symbol, ...]:
    """name_0, name_1, ...: real."""
    return tuple(sympy.Symbol(f"{name}_{k}", real=True) for k in range(count))


X, Z, T, DT = (sympy.Symbol(name, real=True) for name in ("x", "z", "t", "dt"))


@once
def tangents(step: Element, n_coefficients: int, n_tangents: int) -> Element:
    """`tangents(x, z, c, dx, dc) -> dx`: the derivatives after `step(x, z, c)` in n_tangents directions.

    `dx` holds those of x, `dc` those of each coefficient, direction by direction.
    """
    c, dx, dc = (
        symbols(*pair) for pair in (("c", n_coefficients), ("dx", n_tangents), ("dc", n_tangents * n_coefficients))
    )
    after = run(step, X, Z, c)
    in_x, in_c = after.diff(X), [after.diff(ck) for ck in c]
    answers = [
        in_x * dx[p] + sum(in_c[k] * dc[p * n_coefficients + k] for k in range(n_coefficients))
        for p in range(n_tangents)
    ]
    return compose("tangents", "x, z, c, dx, dc", {"c": c, "dx": dx, "dc": dc}, answers)


@once
def coefficient_slopes(coefficients: Element, n_parameters: int) -> Element:
    """`slopes(t, dt, parameters)`: the derivatives of `coefficients`' answers, parameter by parameter."""
    theta = symbols("theta", n_parameters)
    values = run(coefficients, T, DT, theta)
    answers = [value.diff(parameter) for parameter in theta for value in values]
    return compose("slopes", "t, dt, theta", {"theta": theta}, answers)


@once
def terms(value: Element, observe: Element, n_parameters: int, wanted: tuple[int, ...], n_tangents: int) -> Element:
    """`terms(x, totals, dx, parameters)`: totals plus the slopes of value(observe(x)) in parameters and directions."""
    theta, dx, totals = (
        symbols("theta", n_parameters),
        symbols("dx", n_tangents),
        symbols("totals", len(wanted) + n_tangents),
    )
    outcome = run(value, run(observe, X), theta)
    slope = outcome.diff(X)
    parts = [*(outcome.diff(theta[p]) for p in wanted), *(slope * direction for direction in dx)]
    answers = [total + part for total, part in zip(totals, parts, strict=True)]
    return compose("terms", "x, totals, dx, theta", {"totals": totals, "dx": dx, "theta": theta}, answers)


@once
def slope(value: Element, n_parameters: int) -> Element:
    """`slope(x, parameters)`: the derivative of a functional in x."""
    theta = symbols("theta", n_parameters)
    answer = run(value, X, theta).diff(X)
    return compose("slope", "x, theta", {"theta": theta}, [answer], single=True)
