"""Formulas that are refused: in which words, and where."""

import math

import numpy as np
import pytest
import sympy
from expressions_cases import drift, plain_x

from fastlam.expressions import DEPTH, LENGTH


def refused(text, words, error=ValueError):
    with pytest.raises(error) as caught:
        drift(text)
    for word in ["Diffusion: drift", *words.split("|")]:
        assert word in str(caught.value)


ACCEPTED = "accepted are numbers, names, + - * / **"
REFUSED = [
    ("", f"empty|{ACCEPTED}"),
    (" \n\t", "empty"),
    ("x" * (LENGTH + 1), "1,001 characters|1,000"),
    ("x +", f"column 4|syntax|{ACCEPTED}"),
    ("x t", "'t' at column 3|syntax"),
    ("x)", "')' at column 2|syntax"),
    ("x) + (t", "')' at column 2|syntax"),
    ("(x", "'(' at column 1|never closed"),
    ("2x", "column 1|syntax"),
    ("007", "column 1|syntax"),
    ("a\n + nu", "'nu' at line 2, column 4|unknown name"),
    ("\n\n  x + \t zeta(t)", "'zeta(t)' at line 3, column 9|unknown function"),
    ("th\u0435t\u0430", "'\\u0435' at column 3"),  # Cyrillic
    ("\ufb01", "'\\ufb01' at column 1"),  # a ligature, which Python reads as fi
    ("x\0", "'\\x00' at column 2"),
    ("x\x0c", "'\\x0c' at column 2"),
    ("\ud800", "'\\ud800' at column 1"),
    ("x^2", "'^' at column 2|write **"),
    ("thta*x", "'thta' at column 1|did you mean theta?|Known are x, t, theta"),
    ("x + E", "'E' at column 5|unknown name: known are|pi"),
    ("x*exo(t)", "'exo(t)' at column 3|did you mean exp?|abs, min, max"),
    ("exp", "'exp' at column 1|unknown name"),
    ("x(t)", "'x(t)' at column 1|not a function|write *"),
    ("2(x)", f"'2(x)' at column 1|Call|{ACCEPTED}"),
    ("exp(x)(t)", "Call"),
    ("exp()", "'exp()' at column 1|one argument, not 0"),
    ("exp(x, t)", "one argument, not 2"),
    ("max(x)", "max takes two or more arguments, not 1"),
    ("exp(x=1)", "'=' at column 6"),
    ("exp(*x)", "'*x' at column 5|Starred"),
    ("exp(**x)", "'exp(**x)' at column 1|Call"),
    ("x.real", f"'x.real' at column 1|Attribute|{ACCEPTED}"),
    ("(1).real", "Attribute"),
    ("x[0]", f"'[' at column 2|{ACCEPTED}"),
    ("{x}", "'{' at column 1"),
    ("x < 1", "'<' at column 3"),
    ("x == 1", "'=' at column 3"),
    ("lambda: x", "':' at column 7"),
    ("(x := 1)", "':' at column 4"),
    ("'x'", '"\'" at column 1'),
    ('f"{x}"', "'\"' at column 2"),
    ("x # t", "'#' at column 3"),
    ("x; t", "';' at column 2"),
    ("x if t else a", "'x if t else a' at column 1|IfExp"),
    ("x and t", "And"),
    ("not x", "Not"),
    ("x in t", "Compare"),
    ("x // 2", "'x // 2' at column 1|FloorDiv"),
    ("t + x // 2", "'x // 2' at column 5|FloorDiv"),
    ("x % 2", "'%' at column 3"),
    ("~x", "'~' at column 1"),
    ("x, t", "Tuple"),
    ("()", "Tuple"),
    ("exp(x for x in t)", "GeneratorExp"),
    ("await x", "Await"),
    ("True", "'True' at column 1|bool"),
    ("None", "NoneType"),
    ("...", "ellipsis"),
    ("1j*x", "'1j' at column 1|complex"),
    ("__import__('os').system('true')", '"\'" at column 12'),
    ("__import__(os)", "'__import__(os)' at column 1|unknown function"),
    ("x + 0x10", "'0x10' at column 5|not a decimal number"),
    ("0b1", "'0b1' at column 1|not a decimal number"),
    ("1_000", "'1_000' at column 1|not a decimal number"),
    ("x*1e-400", "'1e-400' at column 3|too small for float64"),
    ("1e400", "'1e400' at column 1|finite"),
    ("9" * 400, "column 1|finite"),
    ("x + 1/0", "'1/0' at column 5|division by zero"),
    ("x/0.0", "'x/0.0' at column 1|division by zero"),
    ("1/(x - x)", "division by zero"),
    ("0**-1", "division by zero"),
    ("sqrt(-1)", "'sqrt(-1)' at column 1|finite real"),
    ("x*log(-1)", "'log(-1)' at column 3|finite real"),
    ("log(0)", "finite real"),
    ("log(x - x)", "finite real"),
    ("(-8)**(1/3)", "finite real"),
    ("(-2)**x", "'(-2)**x' at column 1|power of a negative number"),
    ("sqrt(-1 - x**2)", "never a real number"),
    ("log(-x**2)", "never a real number"),
    ("sqrt(-x**2)", "finite real"),
    ("exp(1000)", "finite real"),
    ("1e308*10", "finite real"),
    ("x*1e308*10", "'x*1e308*10' at column 1|beyond float64"),
    ("9**9**9**9", "'9**9**9' at column 4|power above 64"),
    ("9**400", "power above 64"),
    ("x**65", "'x**65' at column 1|power above 64"),
    ("x**-64.5", "power above 64"),
    ("x**64*x", "power above 64"),
    ("(x**64)**64", "power above 64"),
    ("((1000001/1000000)*x)**64", "1,100 bits"),
    ("(" * (DEPTH + 1) + "x" + ")" * (DEPTH + 1), f"column {DEPTH + 1}|deeper than {DEPTH}"),
    ("-" * (DEPTH + 1) + "x", f"deeper than {DEPTH}"),
    ("x" + "**x" * DEPTH, f"column {3 * DEPTH + 1}|deeper than {DEPTH}"),
    ("sin(" * 9 + "x" + ")" * 9, "column 1|functions nested deeper than 8"),
    ("max(" + ", ".join(f"x*{i}" for i in range(11)) + ")", "column 1|11 arguments|at most 10"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=[ascii(text[:40]) for text, _ in REFUSED])
def test_text_is_refused_with_its_place(text, words):
    refused(text, words)


f = sympy.Function("f")
A = sympy.MatrixSymbol("A", 2, 2)
REFUSED_EXPRESSIONS = [
    (sympy.sin(sympy.Symbol("thta")), "'thta'|did you mean theta?"),
    (plain_x * sympy.I, f"'I'|ImaginaryUnit|{ACCEPTED}"),
    (sympy.oo, "'oo'|finite"),
    (sympy.nan, "'nan'|finite"),
    (sympy.zoo, "'zoo'|ComplexInfinity"),
    (sympy.Integer(10) ** 400 * plain_x, "finite"),
    (sympy.Integer(10) ** 5000 * plain_x, "Integer|finite"),  # more digits than Python prints
    (sympy.Piecewise((plain_x, plain_x > 0), (1, True)), "Piecewise"),
    (1 + sympy.sign(plain_x), "'sign(x)'|sign"),
    (f(plain_x), "'f(x)'|SymPy's f"),
    (f(plain_x).diff(plain_x), "'Derivative(f(x), x)'|Derivative"),
    (sympy.Integral(plain_x, plain_x), "Integral"),
    (A, "'A'|MatrixSymbol"),
    (A[0, 0] + plain_x, "MatrixElement"),
    (sympy.ImmutableMatrix([plain_x]), "ImmutableDenseMatrix"),
    (sympy.Matrix([plain_x]), "scalar|MutableDenseMatrix|Matrix([[x]])"),
    (plain_x > 0, "scalar|StrictGreaterThan|x > 0"),
    (sympy.true, "scalar|BooleanTrue"),
    (sympy.EulerGamma * plain_x, "EulerGamma"),
    (sympy.sqrt(-1 - plain_x**2), "never a real number"),
    (sympy.Pow(9, sympy.Pow(9, 9, evaluate=False), evaluate=False), "power above 64"),
    (sympy.Mul(plain_x, sympy.Pow(0, -1, evaluate=False), evaluate=False), "1/0|division by zero"),
    (sympy.Add(*[plain_x * sympy.Symbol("t") ** i for i in range(700)], evaluate=False), "2,000 nodes"),
]


@pytest.mark.parametrize(("expression", "words"), REFUSED_EXPRESSIONS, ids=[words for _, words in REFUSED_EXPRESSIONS])
def test_expression_is_refused_with_its_piece(expression, words):
    refused(expression, words)


def test_deep_expressions_are_refused():
    deep = plain_x
    for _ in range(300):
        deep = sympy.sin(deep, evaluate=False)
    refused(deep, "nested deeper than")


def test_shared_parts_are_counted_each_time():
    doubled = plain_x
    for _ in range(60):  # 2**60 nodes on paper, 120 objects
        doubled = sympy.Add(doubled, sympy.sin(doubled), evaluate=False)
    refused(doubled, "2,000 nodes")


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, 10**400])
def test_infinite_numbers_are_refused(number):
    refused(number, "finite real")


@pytest.mark.parametrize("other", [True, np.True_, None, b"x", ["x"], 1j, np.ones(1), {"x": 1}])
def test_other_kinds_are_refused(other):
    refused(other, "text, a SymPy expression or a real number|" + repr(other), TypeError)
