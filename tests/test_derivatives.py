"""Derivatives that SymPy finds: against central differences, at kinks, in their printed text and in their type."""

import ast
import math
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
import torch
from numba import njit, types

import fastlam
from fastlam import derivatives, printing, reference, schemes
from fastlam.kernels.identity import identity
from fastlam.kernels.polynomial import polynomial
from fastlam.kernels.square import square

H = 1e-6
TOLERANCE = 1e-7  # of a central difference: H**2 by the third derivative, 1e-16 / H by rounding
PROCESSES = [fastlam.Brownian, fastlam.GeometricBrownian, fastlam.OrnsteinUhlenbeck, fastlam.CoxIngersollRoss]
EACH = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.__name__)
SOME = 0.8, 0.5, 0.3, 0.7, 0.2, 0.6  # values of parameters, and of coefficients: as many as any process has


@lru_cache
def of_numbers(element):
    """The element for numbers and tuples of numbers, compiled as kernels compile it: 1 / 0 is inf."""
    return njit(element.py_func, error_model="numpy")


def called(element, *arguments):
    return of_numbers(element)(*arguments)


def moved(values, k, by):
    return tuple(value + by * (i == k) for i, value in enumerate(values))


@EACH
def test_tangents_of_steps(process):
    n = process.n_coefficients
    element = derivatives.tangents(process.step, n, 2)
    step = of_numbers(process.step)
    c, dx, dc = SOME[:n], (0.7, -0.4), tuple(np.linspace(-0.5, 0.9, 2 * n).tolist())
    for x, z in [(0.7, -0.4), (1.3, 2.0), (-0.6, 0.5)]:
        answer = called(element, x, z, c, dx, dc)
        for p, slope in enumerate(answer):
            ways = [tuple(ck + sign * H * dck for ck, dck in zip(c, dc[p * n :], strict=False)) for sign in (-1, 1)]
            low, high = (step(x + sign * H * dx[p], z, way) for sign, way in zip((-1, 1), ways, strict=True))
            assert slope == pytest.approx((high - low) / (2 * H), rel=TOLERANCE, abs=TOLERANCE)


@EACH
def test_slopes_of_coefficients(process):
    names = process._dynamics().names[:-1]
    element = derivatives.coefficient_slopes(process.coefficients, len(names))
    coefficients = of_numbers(process.coefficients)
    for first in (0.8, -0.8, 0.0):
        theta = (first, *SOME[1 : len(names)])
        answer = iter(called(element, 0.25, 0.5, theta))
        for k in range(len(names)):
            low, high = (coefficients(0.25, 0.5, moved(theta, k, by)) for by in (-H, H))
            for a, b in zip(low, high, strict=True):
                assert next(answer) == pytest.approx((b - a) / (2 * H), rel=TOLERANCE, abs=TOLERANCE)


def test_slopes_at_time_zero():
    """No 0 / 0, of sqrt(dt) for one: 0, or 1 where a coefficient is a parameter itself."""
    for process in PROCESSES:
        theta = SOME[: len(process._dynamics().names) - 1]
        slopes = called(derivatives.coefficient_slopes(process.coefficients, len(theta)), 0.0, 0.0, theta)
        ones = sum(value in theta for value in called(process.coefficients, 0.0, 0.0, theta))
        assert sorted(map(abs, slopes)) == [0.0] * (len(slopes) - ones) + [1.0] * ones


def slopes_of(value, x, theta, observe=identity):
    """Slopes of a functional in its parameters and in x."""
    n = len(theta)
    element = derivatives.terms(value, observe, n, tuple(range(n)), 1)
    return called(element, x, (0.0,) * (n + 1), (1.0,), theta)


def differences_of(value, x, theta):
    f = of_numbers(value)
    ends = [(f(x, moved(theta, k, -H)), f(x, moved(theta, k, H))) for k in range(len(theta))]
    return [(b - a) / (2 * H) for a, b in [*ends, (f(x - H, theta), f(x + H, theta))]]


@pytest.mark.parametrize(("value", "theta"), [(square, ()), (polynomial, (0.3, 1.0, -2.0, 0.5, 0.25))])
def test_slopes_of_functionals(value, theta):
    plain = reference.polynomial if theta else lambda x, _, __: x**2
    for x in (-1.2, 0.7):
        assert called(value, x, theta) == pytest.approx(plain(x, theta[1:], sum(theta[:1])), rel=1e-14)  # few roundings
        np.testing.assert_allclose(slopes_of(value, x, theta), differences_of(value, x, theta), rtol=TOLERANCE)


EXPRESSIONS = [
    "x**2.5", "x**2.0", "x**-1", "x**-0.5", "x**0.5", "2**x", "x**64", "x**a", "a**x", "x**(1/3)", "(x**2 + a)**1.5",
    "exp(-a*x)", "log(a + x)*x", "sqrt(a + x**2)", "sin(a*x) + cos(x)", "tan(x/2 + pi/2)", "sinh(x)*cosh(a*x)",
    "tanh(a*x)**3", "abs(x - a)", "max(a*x, 1 - x)", "min(x, a, 2)*x", "max(x, 0)**1.5", "abs(log(a*x))", "x - a*b",
    "(a*x + b)*(x*b + 1) - a*b", "max(a*x, b*x) + b*x", "abs(a*x)*3 + b", "1/(1 + a*x**2)", "-x", "exp(a*x) + b*x",
]  # fmt: skip
SMOOTH = pytest.mark.parametrize("expression", EXPRESSIONS)


@SMOOTH
def test_slopes_of_expressions(expression):
    """Where log and roots are real: at one point, away from kinks."""
    value = schemes.functional(expression, ("a", "b"))
    x, theta = 0.875, (0.625, 1.125)
    names = {**vars(math), "pi": math.pi, "x": x, "a": theta[0], "b": theta[1]}
    wanted = eval(expression, names)
    assert called(value, x, theta) == pytest.approx(wanted, rel=1e-14)  # a few roundings, x**64 some 60
    slopes = slopes_of(value, x, theta)
    np.testing.assert_allclose(slopes, differences_of(value, x, theta), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("power", [64, -64])
def test_powers_of_negative_numbers(power):
    """Milstein's correction and the slopes hold larger powers than the formula, and all are real where x is below 0."""
    element, coefficients, n = schemes.elements("0", f"x**{power}", (), "milstein")
    x, z, dt = -0.9, 0.7, 0.01 * 0.9 ** (-2 * power)  # so that each term counts
    c = called(coefficients, 0.0, dt, ())
    correction = power * x ** (2 * power - 1) * dt / 2 * (z**2 - 1)
    assert called(element, x, z, c) == pytest.approx(
        x + x**power * dt**0.5 * z + correction, rel=1e-13
    )  # ~130 roundings
    (slope,) = called(derivatives.tangents(element, n, 1), x, z, c, (1.0,), (0.0,) * n)
    low, high = (called(element, x + by, z, c) for by in (-H, H))
    assert slope == pytest.approx((high - low) / (2 * H), rel=TOLERANCE)


@pytest.mark.parametrize(
    ("expression", "slopes"),  # at -0.5, 0 and 0.5
    [
        ("max(x, 0)", (0, 0, 1)),
        ("min(x, 0)", (1, 0, 0)),
        ("abs(x)", (-1, 0, 1)),
        ("sqrt(max(x, 0))", (0, 0, 0.5**0.5)),
        ("sqrt(abs(x))", (-(0.5**0.5), 0, 0.5**0.5)),
        ("max(x, 0)**2.0", (0, 0, 1)),
        ("x**2.0", (-1, 0, 1)),
        ("x*abs(x)", (1, 0, 1)),
    ],
)
def test_kinks(expression, slopes):
    value = schemes.functional(expression, ())
    answers = [slopes_of(value, x, ())[0] for x in (-0.5, 0.0, 0.5)]
    np.testing.assert_allclose(answers, slopes, rtol=1e-15)


@pytest.mark.parametrize("expression", ["max(x, 0)**a", "max(x, 0)**0.625"])
def test_powers_of_zero(expression):
    """Nothing depends on the exponent there, nor on what max leaves out; exp and log are within 1.5 units."""
    value, a = schemes.functional(expression, ("a",)), 0.625
    for x in (-0.5, 0.0):
        assert slopes_of(value, x, (a,)) == (0.0, 0.0)
    in_a, in_x = 0.5**a * math.log(0.5), a * 0.5 ** (a - 1)
    wanted = (0.0 if "0.625" in expression else in_a, in_x)
    np.testing.assert_allclose(slopes_of(value, 0.5, (a,)), wanted, rtol=3e-15)


@pytest.mark.parametrize(("exponent", "in_x"), [(1.0, 1.0), (2.0, 0.0), (0.5, math.inf)])
def test_plain_powers_of_zero(exponent, in_x):
    value = schemes.functional("x**a", ("a",))
    assert slopes_of(value, 0.0, (exponent,)) == (0.0, in_x)
    assert np.isnan(slopes_of(value, -1.0, (1.5,))).all()  # as the power itself


@pytest.mark.parametrize(
    ("expression", "theta", "slopes"),  # at x = 2: in a and b, then in x
    [
        ("max(a*x, b*x)", (1.5, 1.5), (1, 1, 1.5)),
        ("min(a*x, b*x)", (1.5, 1.5), (1, 1, 1.5)),
        ("max(a*x, b)", (1.5, 3.0), (1, 0.5, 0.75)),
        ("min(b, a*x)", (1.5, 3.0), (1, 0.5, 0.75)),
        ("max(a*x, b)**2", (1.5, 3.0), (6, 3, 4.5)),
        ("max(a*x - b, 0)", (1.5, 3.0), (0, 0, 0)),
        ("max(a*x, b)", (1.5, 2.9), (2, 0, 1.5)),
    ],
)
def test_slopes_where_arguments_are_equal(expression, theta, slopes):
    """Half to each, as torch's maximum."""
    value = schemes.functional(expression, ("a", "b"))
    np.testing.assert_allclose(slopes_of(value, 2.0, theta), slopes, rtol=1e-15)


def test_cox_ingersoll_ross_at_and_below_zero():
    """There neither the state's pull nor its noise depends on the state."""
    element = derivatives.tangents(fastlam.CoxIngersollRoss.step, 3, 1)
    for x in (0.0, -0.0, -0.1):
        assert called(element, x, 1.5, (0.1, 0.5, 0.7), (2.0,), (0.25, 0.5, 1.0)) == (2.0 + 0.25 * 0.5 + 0.1 * 0.5,)
        assert slopes_of(square, x, (), fastlam.CoxIngersollRoss.observe) == (0.0,)


@pytest.fixture
def printed(monkeypatch):
    """The texts that are compiled."""
    texts = []
    monkeypatch.setattr(
        printing, "compile", lambda text, *rest: texts.append(text) or compile(text, *rest), raising=False
    )
    return texts


def loose_products(text):
    """Products where a compiler could join them to a sum: in one, returned or kept, chosen from."""
    for node in ast.walk(ast.parse(text)):
        parts = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
            parts = [node.left, node.right]
        elif isinstance(node, (ast.Assign, ast.Return, ast.UnaryOp)):
            value = node.operand if isinstance(node, ast.UnaryOp) else node.value
            parts = value.elts if isinstance(value, ast.Tuple) else [value]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "maximum",
            "minimum",
            "where_positive",
            "share_positive",
            "abs",
        ):
            parts = node.args
        yield from [part for part in parts if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mult)]


def test_no_product_is_loose(printed):
    for expression in EXPRESSIONS:
        value = schemes.functional(expression, ("a", "b"))
        derivatives.terms(value, identity, 2, (0, 1), 2)
        for scheme in ("euler", "milstein"):
            step, coefficients, n = schemes.elements(expression, f"b*t*({expression})", ("a", "b"), scheme)
            derivatives.tangents(step, n, 2)
            derivatives.coefficient_slopes(coefficients, 2)
    for process in PROCESSES:
        derivatives.tangents.__wrapped__(process.step, process.n_coefficients, 2)
        derivatives.coefficient_slopes.__wrapped__(process.coefficients, len(process._dynamics().names) - 1)
    assert len(printed) >= 5 * len(EXPRESSIONS)
    for text in printed:
        assert not [ast.unparse(part) for part in loose_products(text)], text
    assert list(loose_products("def f(x):\n return x + x * x"))  # or nothing is looked at


@pytest.mark.parametrize(
    "expression", ["(a*x + b)*(x*b + 1) - a*b", "max(a*x, b*x) + sqrt(abs(x))*b", "x**3 + a*x**2.5 - 1/(b + x)"]
)
def test_float32_stays_and_no_product_feeds_a_sum(expression):
    """In the compiled code of a step and its tangents."""
    step, _, n = schemes.elements(expression, f"b*({expression})", ("a", "b"), "milstein")
    tangents = derivatives.tangents(step, n, 1)
    real = types.float32
    c = types.UniTuple(real, n)

    def both(x, z, c, dx, dc, answer):
        answer[0] = step(x, z, c)
        answer[1] = tangents(x, z, c, dx, dc)[0]

    signature = types.void(real, real, c, types.UniTuple(real, 1), c, real[::1])
    (code,) = njit(signature, error_model="numpy", no_cpython_wrapper=True)(both).inspect_llvm().values()
    assert "fmul float" in code
    assert not re.search(r"= (f\w+ double|fpext|call double)", code)
    products = set(re.findall(r"(%\S+) = fmul ", code))
    sums = re.findall(r"= f(?:add|sub) float (\S+), (\S+)", code)
    assert sums
    assert products.isdisjoint(term for terms in sums for term in terms)


@njit(inline="always")
def branching(x, z, coefficients):
    (scale,) = coefficients
    if x > type(x)(0):
        return x + scale * z
    return x - scale * z


@njit(inline="always")
def branching_coefficients(t, dt, parameters):
    return (parameters[0] * math.sqrt(dt),)


@dataclass(frozen=True)
class Branching(fastlam.Process):
    sigma: object
    x0: object = 0.25
    step, coefficients = staticmethod(branching), staticmethod(branching_coefficients)
    n_coefficients = 1


def test_branches_have_no_derivatives():
    times = torch.tensor([0.5, 1.0])
    x = fastlam.simulate(Branching(0.5), times, 100, seed=1)
    assert x.isfinite().all()
    process = Branching(torch.tensor(0.5, requires_grad=True))
    with pytest.raises(TypeError, match=r"branching cannot be differentiated .* arithmetic without branches"):
        fastlam.simulate_mean_square(process, times, 100, seed=1)


BRANCHES = [
    "x == 0.5",
    "0.5 != x",
    "x + c[0] == 1.0",
    "x >= c[0]",
    "x",
    "not x - c[0]",
    "c[0] and z",
    "x in (0.0, 1.0)",
]


@pytest.mark.parametrize("condition", BRANCHES)
def test_no_branch_is_lost(condition):
    """Of SymPy's expressions most of these are True, or False, whatever x is."""
    scope = {}
    exec(f"def element(x, z, c):\n    if {condition}:\n        return 2.0\n    return x * x + c[0]", scope)
    with pytest.raises(TypeError, match=r"element cannot be differentiated \(it (compares|branches on) .*\)"):
        derivatives.tangents(njit(scope["element"]), 1, 1)


def test_branches_on_constants_are_followed():
    linear, scale, share = True, np.float32(0.5), (np.float64(0.25), 2)

    @njit
    def element(x, z, c):
        value = scale * x + x / share[0] if linear else x
        return -value if len(c) == 1 and math.sqrt(2.0) > 1 else value

    x = derivatives.X
    assert derivatives.run(element, x, derivatives.Z, derivatives.symbols("c", 1)) == -4.5 * x
    assert derivatives.run(element, x, derivatives.Z, ()) == 4.5 * x


@njit(inline="always")
def with_builtins(x, z, coefficients):
    return max(x, 0.5) + min(x, 2.0 * x, 1.0) + abs(x) + np.exp(x) * math.pi + x**2.0


def test_builtins_of_python_and_numpy():
    for x in (-0.7, 0.8):
        (slope,) = called(derivatives.tangents(with_builtins, 0, 1), x, 0.0, (), (1.0,), ())
        low, high = (called(with_builtins, x + by, 0.0, ()) for by in (-H, H))
        assert slope == pytest.approx((high - low) / (2 * H), rel=TOLERANCE)
