"""Formulas: what is read, and as what; what is refused, and in which words; and nothing takes for ever."""

import ast
import inspect
import math
import operator
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastlam import algebra, expressions
from fastlam.expressions import DEPTH, LENGTH, read

NAMES = ("x", "t", "theta", "mu", "sigma", "strike", "a", "b")
SYMBOLS = {name: sympy.Symbol(name, real=True) for name in NAMES}
x, t, theta, mu, sigma, strike, a, b = SYMBOLS.values()
ONE_ARGUMENT = ("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "abs")
plain_x = sympy.Symbol("x")


def drift(text):
    return read(text, SYMBOLS, "Diffusion: drift")


def refused(text, words, error=ValueError):
    with pytest.raises(error) as caught:
        drift(text)
    for word in ["Diffusion: drift", *words.split("|")]:
        assert word in str(caught.value)


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
    ("1_000*x + 0x10", 1000 * x + 16),
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


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS)
def test_expression_is_read_over_our_symbols(expression, expected):
    value = drift(expression)
    assert value == expected
    assert value.free_symbols <= set(SYMBOLS.values())


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


def is_read_or_refused(text):
    """Anything else than ValueError fails the test that calls."""
    try:
        value = drift(text)
    except ValueError as refusal:
        return str(refusal).startswith("Diffusion: drift ")
    return value.free_symbols <= set(SYMBOLS.values())


FORMULA_CHARACTERS = "xtab019.eE_+-*/(), \n"


@given(
    st.one_of(
        st.text(max_size=60),
        st.text(FORMULA_CHARACTERS, max_size=60),
        st.lists(
            st.sampled_from(
                [
                    "x",
                    "t",
                    "2",
                    ".5",
                    "(",
                    ")",
                    "**",
                    "*",
                    "/",
                    "-",
                    "+",
                    ",",
                    "exp(",
                    "max(",
                    "sqrt(",
                    "abs(",
                    "not ",
                    " if ",
                    " else ",
                    "9",
                    "0",
                    "log(",
                ]
            ),
            max_size=40,
        ).map("".join),
    )
)
@settings(max_examples=1000, deadline=None)
def test_any_text_is_read_or_refused(text):
    assert is_read_or_refused(text)


def nested(before, after, n=45):
    """As deep as fits into the length."""
    text = "x"
    for _ in range(n):
        if len(before + text + after) <= LENGTH:
            text = before + text + after
    return text


def joined(separator, pattern, values):
    return separator.join(pattern.format(value) for value in values)[:LENGTH].rpartition(separator)[0]


MANY = range(2, 300)
NASTY = [
    # for Python's parser
    *(text * LENGTH for text in "(-9x., \n"),
    *(
        text * (LENGTH // len(text))
        for text in ("exp(", "not ", "x**", "9**", "x.", "x()", "(x,", "f(x for x in ", "x if x else ")
    ),
    "1e" + "9" * 900,
    # for arithmetic
    "9**9**9**9**9",
    "((9**64)**64)**64",
    "((((1000001/1000000)**64)**64)**64)**64",
    "((((1000001/1000000)*x)**64/x**63)**64/x**63)**64",
    f"sqrt(1{'0' * 300}39*x)",
    f"(1{'7' * 305}*x)**(1/7919)",
    joined(" + ", "1/{}", MANY),
    joined(" + ", "sqrt({})", MANY),
    joined(" + ", "sqrt({}*x)", MANY),
    # for SymPy: each of these took minutes or more when it simplified what it liked
    "cosh((x + sqrt(t))**64)",
    "sinh(1/(sqrt(x) + sqrt(t) + sqrt(a))**63)",
    "tanh((log(t) + sqrt(x))*(log(x) - sqrt(t))*(sqrt(a) + log(b))*(log(a) + sqrt(mu)))",
    nested("tanh(1 + ", "/t)", 8),
    nested("tanh(1 + ", "/t)"),
    "0*" + nested("tanh(1 + ", "/t)", 7),
    "({0})*({0})".format("1 + " + nested("tanh(1 + ", "/t)", 7)),
    nested("sqrt((1/(1 + ", "))**2)", 4),
    nested("sqrt((1/(1 + ", "))**2)"),
    nested("abs(", "*x + t)**3", 4),
    nested("abs(", "*x + t)**3"),
    nested("max(x, t, a, b, mu, ", "*2)", 4),
    nested("max(x, t, a, b, mu, ", "*2)"),
    nested("max(x - ", "*(t - a), b)", 4),
    nested("exp(x*log(", "))"),
    nested("log(x**", " + 1)"),
    # for all three, in size
    nested("1/(1 - x/(t + ", "))"),
    nested("(x*", " + 1)"),
    nested("(x**2*", ")**0.5"),
    nested("x**(", ")"),
    joined("*", "(x + {})", MANY),
    joined(" + ", "t*x**{}", [i % 64 for i in MANY]),
    joined("/", "x/t{}", [""] * 300),
    "max(" + joined(", ", "(a*x + {})**63", range(2, 12)) + ")",
    joined("*", "max(x, {}*t)", MANY),
    "abs(" + joined(" + ", "1/(x + {})", MANY)[:900].rpartition(" + ")[0] + ")",
]


@pytest.mark.timeout(60)  # a second is usual; without the limits of `algebra` some would not end at all
@pytest.mark.parametrize("text", NASTY, ids=[ascii(text[:40]) for text in NASTY])
def test_nothing_takes_for_ever(text):
    assert len(text) <= LENGTH
    assert is_read_or_refused(text)
