"""Formulas: what text, numbers and SymPy's expressions are read as, none of it ever run."""

import ast
import inspect
import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from expressions_cases import SYMBOLS, drift, plain_x
from hypothesis import given
from hypothesis import strategies as st

from fastlam import algebra, expressions
from fastlam.expressions import DEPTH, LENGTH, read

x, t, theta, mu, sigma, strike, a, b = SYMBOLS.values()


READ = [
    ("theta*(mu - x)", theta * (mu - x)),
    ("sigma*sqrt(x)", sigma * sympy.sqrt(x)),
    ("a*max(x - strike, 0)**2", a * sympy.Max(x - strike, 0) ** 2),
    ("min(max(x, a), b)", sympy.Min(sympy.Max(x, a), b)),
    ("abs(x - strike)", sympy.Abs(x - strike)),
    ("1/(1 + exp(-(x - a)/b))", 1 / (1 + sympy.exp(-(x - a) / b))),
    ("log(x/strike)/(sigma*sqrt(t))", sympy.log(x / strike) / (sigma * sympy.sqrt(t))),
    ("exp(-(log(x) - mu)**2/(2*sigma**2))", sympy.exp(-((sympy.log(x) - mu) ** 2) / (2 * sigma**2))),
    ("tanh(x) + sinh(t)*cosh(a) - tan(b)", sympy.tanh(x) + sympy.sinh(t) * sympy.cosh(a) - sympy.tan(b)),
    ("sin(2*pi*t)*cos(t)", sympy.sin(2 * sympy.pi * t) * sympy.cos(t)),
    ("+x - -t", x + t),
    ("-x**2", -(x**2)),
    ("2**-1**x", 2 ** (-(1**x))),
    ("x**64", x**64),
    ("x**(1/3)", x ** sympy.Rational(1, 3)),
    ("x/3", x / 3),
    ("1000.*x + .16e+2", sympy.Float(1000) * x + 16.0),
    ("sqrt(x**2)", sympy.Abs(x)),
    ("sqrt(x**4)", x**2),
    ("(x**3)**(1/3)", (x**3) ** sympy.Rational(1, 3)),  # not x: it is below zero where x is
    ("log(x**2)", sympy.log(x**2)),  # not 2*log(x)
    ("x - x + 1", sympy.Integer(1)),
    ("tan((x + pi)/2)", sympy.tan(x / 2 + sympy.pi / 2, evaluate=False)),  # SymPy's is a cot
    (" \t x\n  + t \r\n", x + t),
    ("(" * DEPTH + "x" + ")" * DEPTH, x),
    ("+".join("x" * (LENGTH // 2)), LENGTH // 2 * x),
]


@pytest.mark.parametrize(("text", "expected"), READ, ids=[text[:40] for text, _ in READ])
def test_text_is_read(text, expected):
    assert drift(text) == expected


CONSTANTS = [
    ("3", sympy.Integer(3)),
    ("1/3 + 1/6", sympy.Rational(1, 2)),
    ("max(1/3, 0.1, -2)", sympy.Float(1 / 3)),
    ("abs(-2/3)", sympy.Rational(2, 3)),
    ("2**-3", sympy.Rational(1, 8)),
    ("9**9", sympy.Integer(9**9)),
    ("2*pi/3", 2 * sympy.pi / 3),
    ("sqrt(2)", sympy.Float(math.sqrt(2))),
    ("sqrt(4)", sympy.Float(2.0)),
    ("4**(1/2)", sympy.Float(2.0)),
    ("cos(pi)", sympy.Float(-1.0)),
    ("0.1 + 0.2", sympy.Float(0.1 + 0.2)),
    ("2**0.5*exp(1)", sympy.Float(2**0.5 * math.exp(1))),
    ("(1000001/1000000)**64", sympy.Float((1000001 / 1000000) ** 64)),  # its fraction has 2,500 bits
    ("1e-200*1e-200", sympy.Float(0.0)),
]


@pytest.mark.parametrize(("text", "expected"), CONSTANTS)
def test_constants_are_exact_or_what_python_computes(text, expected):
    value = drift(text)
    assert value == expected
    assert type(value) is type(expected)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=0))
def test_every_float_is_read_as_it_is(number):
    for value in (drift(repr(number)), drift(number)):
        assert isinstance(value, sympy.Float)
        assert float(value) == number


@given(st.integers(min_value=0, max_value=2**1023))
def test_integers_are_exact(number):
    assert int(drift(str(number))) == int(drift(-number)) * -1 == number


@pytest.mark.parametrize("number", [2, np.int64(2), np.float32(2.0), np.float64(2.0), Fraction(4, 2)])
def test_numbers_of_other_kinds(number):
    assert float(drift(number)) == 2


EXPRESSIONS = [
    (sympy.sqrt(plain_x**2), sympy.Abs(x)),  # SymPy may not do that to a complex x
    (sympy.Symbol("theta", positive=True) * (sympy.Symbol("mu", integer=True) - sympy.Dummy("x")), theta * (mu - x)),
    (plain_x + x, 2 * x),
    (sympy.exp(plain_x) + sympy.E + sympy.pi, sympy.exp(x) + sympy.E + sympy.pi),
    (sympy.Max(x, 0) - sympy.Min(x, t, a), sympy.Max(x, 0) - sympy.Min(x, t, a)),
    (sympy.sqrt(2) * plain_x, sympy.Float(math.sqrt(2)) * x),
    (plain_x * sympy.Float("0.1", 50), sympy.Float(0.1) * x),
    (plain_x * sympy.Rational(1, 3), x / 3),
    (sympy.Add(1, 1, evaluate=False), sympy.Integer(2)),
]


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS)
def test_expression_is_read_over_our_symbols(expression, expected):
    value = drift(expression)
    assert value == expected
    assert value.free_symbols <= set(SYMBOLS.values())


@pytest.mark.parametrize("module", [algebra, expressions], ids=lambda module: module.__name__)
def test_nothing_that_runs_text_is_called(module):
    names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(ast.parse(inspect.getsource(module)))}
    assert not names & {"eval", "exec", "compile", "__import__", "sympify", "parse_expr", "lambdify", "simplify"}


def test_names_of_the_caller_come_first():
    pi = sympy.Symbol("pi", real=True)
    assert read("2*pi", {"pi": pi}, "here") == 2 * pi
    assert read("2*exp", {"exp": theta}, "here") == 2 * theta
    with pytest.raises(ValueError, match="exp is not a function"):
        read("exp(1)", {"exp": theta}, "here")
