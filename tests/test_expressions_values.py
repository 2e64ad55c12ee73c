"""Formulas are worth what Python makes of the same text, at any point."""

import math
import operator

import mpmath
import sympy
from expressions_cases import drift
from hypothesis import assume, given, settings
from hypothesis import strategies as st

ONE_ARGUMENT = ("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "abs")
ATOMS = st.sampled_from(["x", "t", "pi", "0", "1", "2", "3", "0.5", "1.5", "7", "1e-3"])
POWERS = st.sampled_from(["2", "3", "-1", "-2", "0.5", "1.5", "(1/3)", "(2/3)", "2.0", "t", "0"])


def formulas(parts):
    return st.one_of(
        st.builds("({} {} {})".format, parts, st.sampled_from("+-*/"), parts),
        st.builds("{}({})".format, st.sampled_from(ONE_ARGUMENT), parts),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), parts, parts),
        st.builds("(-{})".format, parts),
        st.builds("({})**{}".format, parts, POWERS),
    )


def functions(module):
    return {"__builtins__": {}, "abs": abs, "min": min, "max": max, "pi": math.pi} | {
        name: getattr(module, name) for name in ONE_ARGUMENT if name != "abs"
    }


NODES = {
    sympy.Add: lambda *terms: mpmath.fsum(terms),
    sympy.Mul: lambda *factors: mpmath.fprod(factors),
    sympy.Pow: operator.pow,
    sympy.Abs: abs,
    sympy.Min: min,
    sympy.Max: max,
    **{getattr(sympy, name): getattr(mpmath, name) for name in ONE_ARGUMENT if name not in ("abs", "sqrt")},
}


def value_of(expression, point):
    """What the expression is worth, in mpmath's precision; it has nothing but the nodes that `read` promises."""
    if expression.is_Symbol:
        return point[expression.name]
    if expression in (sympy.pi, sympy.E):
        return mpmath.mpf(float(expression))
    if expression.is_Number:
        assert math.isfinite(float(expression))
        return (
            mpmath.mpf(int(expression.p)) / int(expression.q)
            if expression.is_Rational
            else mpmath.mpf(float(expression))
        )
    return NODES[type(expression)](*[value_of(part, point) for part in expression.args])


coordinates = st.floats(-3, 3).map(lambda number: number + 0.0123)  # not where sin(pi*x) is 0 but for rounding


@given(st.recursive(ATOMS, formulas, max_leaves=6), coordinates, coordinates)
@settings(max_examples=600, deadline=None)
def test_formulas_are_worth_what_python_makes_of_them(text, x, t):
    try:
        by_python = eval(text, functions(math) | {"abs": math.fabs}, {"x": x, "t": t})
    except (ArithmeticError, ValueError, TypeError):  # TypeError: a function of a complex number
        assume(False)
    assume(isinstance(by_python, (int, float)) and math.isfinite(by_python))
    with mpmath.workdps(60):
        point = {"x": mpmath.mpf(x), "t": mpmath.mpf(t)}
        exactly = eval(text, functions(mpmath.mp), point)
        # Where floats lose ten digits, to cancellation or at a pole, they are no yardstick.
        assume(mpmath.almosteq(exactly, by_python, 1e-6, 1e-9))
        ours = value_of(read_within_limits(text), point)
        assert mpmath.almosteq(ours, by_python, 1e-5, 1e-8)


def read_within_limits(text):
    try:
        return drift(text)
    except ValueError as refusal:
        assume("power above 64" not in str(refusal) and "deeper than 8" not in str(refusal))
        raise
