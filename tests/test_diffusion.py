"""`Diffusion`: expressions against the reference, schemes against their orders, names, errors, equality and pickles."""

import copy
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sympy
import torch

import fastlam
from fastlam import reference
from fastlam.elements import record

SEED = 7
TIMES = np.array([0.1, 0.25, 0.3, 1.0, 1.5])
LINEAR = ("mu * x", "sigma * x", {"mu": 0.5, "sigma": 0.4, "x0": 1.0})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constants_are_brownian_to_the_bit(dtype):
    process = fastlam.Diffusion("mu", "sigma", {"x0": 1.5, "mu": 0.3, "sigma": 0.7})
    x = fastlam.simulate(fastlam.Brownian(0.3, 0.7, 1.5), TIMES, 1100, seed=SEED, dtype=dtype)
    np.testing.assert_array_equal(fastlam.simulate(process, TIMES, 1100, seed=SEED, dtype=dtype), x)


def test_means_of_constants_are_those_of_brownian_to_the_bit():
    """And the gradient in a parameter that no expression has is 0."""
    mu, unused = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.3, 2.0))
    process = fastlam.Diffusion("mu", "sigma", {"mu": mu, "unused": unused, "sigma": 0.7, "x0": 1.5})
    k = fastlam.simulate_mean_square(process, torch.tensor(TIMES), 1100, lam=0.25, seed=SEED)
    x = fastlam.simulate(fastlam.Brownian(0.3, 0.7, 1.5), TIMES, 1100, seed=SEED)
    np.testing.assert_array_equal(k.detach().numpy(), fastlam.mean_square(x, 0.25))
    k.sum().backward()
    assert unused.grad.item() == 0.0
    slope = 0.25 * 2 * (x.mean(axis=1) * TIMES).sum()
    assert mu.grad.item() == pytest.approx(slope, rel=1e-12)  # sums of 1100 in another order


@pytest.mark.parametrize(
    ("expressions", "scheme", "n"),
    [
        (("mu", "sigma"), "euler", 2),
        (("mu", "sigma"), "milstein", 2),
        (("kappa * (mu - x)", "sigma * sqrt(x)"), "euler", 3),
        (("mu * x", "sigma * x"), "milstein", 3),
        (("sin(mu * t) * x + cos(kappa)", "exp(-kappa * t) * sigma"), "euler", 4),
        ((0, 0), "milstein", 0),
    ],
)
def test_what_no_path_changes_is_a_coefficient(expressions, scheme, n):
    process = fastlam.Diffusion(*expressions, {"mu": 1, "sigma": 1, "kappa": 1, "x0": 1}, scheme=scheme)
    assert record(process.handle).n_coefficients == n


@pytest.fixture(scope="module")
def errors():
    """By scheme: mean |x - X|, |mean(x - X)|, |mean(x**2 - X**2)| at time 1 by number of steps, driven by one noise."""
    n_paths, found = 2**14, {}
    for scheme in ("euler", "milstein"):
        rows = []
        for n in (16, 32, 64, 128):
            times = np.arange(1, n + 1) / n
            stream = {"seed": SEED, "n_paths": n_paths}
            x = fastlam.simulate(fastlam.Diffusion(*LINEAR, scheme=scheme), times, **stream)[-1]
            exact = fastlam.simulate(fastlam.GeometricBrownian(*LINEAR[2].values()), times, **stream)[-1]
            rows.append([np.abs(x - exact).mean(), abs((x - exact).mean()), abs((x**2 - exact**2).mean())])
        found[scheme] = np.array(rows)
    return found


def order(error):
    """Slope of the error's logarithm in the step's."""
    return -np.polyfit(np.log([16, 32, 64, 128]), np.log(error), 1)[0]


@pytest.mark.parametrize(("scheme", "strong"), [("euler", 0.5), ("milstein", 1.0)])
def test_strong_order(errors, scheme, strong):
    """A mean of 16,384 errors is known to about 1%, the order to 0.01."""
    assert order(errors[scheme][:, 0]) == pytest.approx(strong, abs=0.1)


def test_weak_order_of_milstein(errors):
    """The two differ by what is small of order 1 itself, so that a bias is known to 2%."""
    for moment in (1, 2):
        assert order(errors["milstein"][:, moment]) == pytest.approx(1.0, abs=0.1)


def test_weak_order_of_euler():
    """With little noise, for Euler's errors by path are large of order 1/2: a bias is then known to 1%."""
    biases = []
    for n in (16, 32, 64, 128):
        times = np.arange(1, n + 1) / n
        process = fastlam.Diffusion(*LINEAR[:2], {"mu": 0.5, "sigma": 0.1, "x0": 1.0})
        x = fastlam.simulate(process, times, 2**14, seed=SEED)[-1]
        exact = fastlam.simulate(fastlam.GeometricBrownian(0.5, 0.1, 1.0), times, 2**14, seed=SEED)[-1]
        biases.append([abs((x - exact).mean()), abs((x**2 - exact**2).mean())])
    for bias in np.array(biases).T:
        assert order(bias) == pytest.approx(1.0, abs=0.1)


EVERY_FUNCTION = (
    "exp(-x**2) + 2*log(2 + x**2) - 3*sqrt(1 + x**2)/2 + 0.5*sin(2*x) + 0.7*cos(t*x) + 0.3*tan(x/8) + 0.2*sinh(x/2)"
    " + 0.1*cosh(x/3) + a*tanh(x) + 0.4*abs(x - 1) + 0.6*min(x, t, a) - 0.8*max(x, 2*t, 0.5) + x**2.5/50 - 2**(t/pi)"
)


def function_of(text):
    names = {name: getattr(np, name) for name in ("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh")}
    names |= {"pi": math.pi, "abs": np.abs, "a": 0.75}
    names |= {"min": lambda *v: np.min(np.broadcast_arrays(*v), axis=0)}
    names |= {"max": lambda *v: np.max(np.broadcast_arrays(*v), axis=0)}
    return lambda x, t: eval(text, names, {"x": x, "t": t})


@pytest.mark.parametrize("scheme", ["euler", "milstein"])
def test_every_function_against_the_reference(scheme):
    """Rounding grows a hundredfold at most over five steps; the slope is a central difference, right to 1e-9."""
    f, g = function_of(EVERY_FUNCTION), function_of("(1 + t*x**2) * 0.2 + 0.1*sin(x)*abs(x - 1)")
    step = reference.euler(f, g)
    if scheme == "milstein":
        step = reference.milstein(f, g, lambda x, t: (g(x + 1e-6, t) - g(x - 1e-6, t)) / 2e-6)
    text = "(1 + t*x**2) * 0.2 + 0.1*sin(x)*abs(x - 1)"
    process = fastlam.Diffusion(EVERY_FUNCTION, text, {"a": 0.75, "x0": 4.0}, scheme=scheme)
    times = np.arange(1, 6) / 40
    x = fastlam.simulate(process, times, 1100, seed=SEED)
    exact = reference.follow(step, 4.0, times, 1100, seed=SEED, dtype="float64")
    assert exact.min() > 0  # as x**2.5 needs
    np.testing.assert_allclose(x, exact, rtol=1e-13 if scheme == "euler" else 1e-8)


def test_text_expression_and_number_are_one():
    x, t, a = sympy.Symbol("x"), sympy.Symbol("t", positive=True), sympy.Symbol("a", real=True)
    written = [
        ("a*(t - x)", "0.5"),
        (a * (t - x), 0.5),
        (a * (t - x), sympy.Rational(1, 2)),
        ("a*(t - x)", np.float32(0.5)),
    ]
    paths = [fastlam.simulate(fastlam.Diffusion(*w, {"a": 0.7, "x0": 1}), TIMES, 100, seed=SEED) for w in written]
    for other in paths[1:]:
        np.testing.assert_array_equal(other, paths[0])


@pytest.mark.parametrize("expression", ["cosh((x + sqrt(t*a))**64)", "tanh(sinh(x + sqrt(t))**64)", "tan(x/2 + pi/2)"])
def test_what_sympy_would_lose_itself_in_or_rewrite(expression):
    process = fastlam.Diffusion(expression, expression, {"a": 1, "x0": 1}, scheme="milstein")
    assert record(process.handle).n_coefficients >= 2


def test_names_of_what_is_printed_are_free():
    names = ["exp", "theta_0", "c_0", "s_0", "type", "product", "fma", "x_", "dx_0", "theta", "c", "maximum", "step"]
    values = np.linspace(0.1, 0.9, len(names)).tolist()
    paths = []
    for spelled in (names, [f"p{i}" for i in range(len(names))]):
        drift = " + ".join(f"{name} * x" for name in spelled[::2]) + f" + {spelled[0]} * t"
        diffusion = " + ".join(f"{name} * cos(x * {name})" for name in spelled[1::2])
        process = fastlam.Diffusion(drift, diffusion, {**dict(zip(spelled, values, strict=True)), "x0": 1})
        paths.append(fastlam.simulate(process, TIMES, 100, seed=SEED))
    np.testing.assert_array_equal(*paths)


@pytest.mark.parametrize("name", ["x", "t", "z", "dt", "pi", "lambda", "if", "None", "é", "a b", "1a", "", 3])
def test_names_that_are_taken_or_none(name):
    with pytest.raises(
        ValueError, match=r"Diffusion: parameters has the name .*, which (stands|must be an identifier)"
    ):
        fastlam.Diffusion("x", "1", {name: 1.0, "x0": 1.0})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("x", "1", {}), ValueError, "Diffusion: parameters must hold x0, the state at time 0"),
        (("x", "1", {"x0": 1}, "heun"), ValueError, "scheme must be one of euler, milstein, but is 'heun'"),
        (("x", "1", {"x0": 1}, ["euler"]), ValueError, "scheme must be one of euler, milstein, but is"),
        (
            ("x - x0", "1", {"x0": 1}),
            ValueError,
            "drift has x0, the state at time 0, which steps do not know: give its",
        ),
        (("x", "x0", {"x0": 1}), ValueError, "diffusion has x0, the state at time 0"),
        (("x - y", "1", {"x0": 1}), ValueError, "Diffusion: drift has 'y' at column 5, an unknown name"),
        (("x", "sin(x", {"x0": 1}), ValueError, "Diffusion: diffusion has .* a syntax error"),
        (("x", "1", [("x0", 1)]), TypeError, "Diffusion: parameters must be a mapping of names to numbers"),
        (("x", "1", {"x0": "1"}), TypeError, "Diffusion: x0 must be one real number, but is '1'"),
        (("a", "1", {"x0": 1, "a": math.nan}), ValueError, "Diffusion: a must be finite, but is nan"),
        ((["x"], "1", {"x0": 1}), TypeError, "drift must be text, a SymPy expression or a real number, but is"),
        ((np.ones(2), "1", {"x0": 1}), TypeError, "drift must be text, a SymPy expression or a real number, but is"),
        (("x", None, {"x0": 1}), TypeError, "diffusion must be text, a SymPy expression or a real number, but is None"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        fastlam.Diffusion(*arguments)


def test_true_is_no_number_after_1_was():
    fastlam.Diffusion(1, 1, {"x0": 1})
    with pytest.raises(TypeError, match="drift must be text, a SymPy expression or a real number, but is True"):
        fastlam.Diffusion(True, 1, {"x0": 1})


def test_tensor_that_is_not_finite_is_refused():
    a = torch.tensor(math.inf)
    with pytest.raises(ValueError, match="Diffusion: a must be finite, but is inf"):
        fastlam.Diffusion("a", "1", {"a": a, "x0": 0})
    process = fastlam.Diffusion("a", "1", {"a": a.zero_(), "x0": 0})
    a.fill_(math.inf)  # as an optimizer that diverges
    for launch in (fastlam.simulate, fastlam.simulate_mean_square):
        with pytest.raises(ValueError, match="a must be finite, but is inf"):
            launch(process, torch.tensor(TIMES), 2, seed=1)


def made(**changed):
    names = {"drift": sympy.Symbol("a") * sympy.Symbol("x"), "diffusion": "b", "scheme": "milstein"}
    return fastlam.Diffusion(**{**names, "parameters": {"x0": 1, "a": 0.5, "b": torch.tensor(0.25)}, **changed})


def test_equality_and_copies():
    process = made()
    for other in (made(), copy.copy(process), copy.deepcopy(process), pickle.loads(pickle.dumps(process))):
        assert other == process
        assert hash(other) == hash(process)
        assert (
            repr(other)
            == repr(process)
            == ("Diffusion('a*x', 'b', {'a': 0.5, 'b': tensor(0.2500), 'x0': 1.0}, scheme='milstein')")
        )
    different = [
        {"drift": "a"},
        {"diffusion": "a"},
        {"scheme": "euler"},
        {"parameters": {"x0": 2, "a": 0.5, "b": 0.25}},
    ]
    assert all(made(**change) != process for change in different)
    assert process != "a*x"
    process.parameters()["a"] = 3.0
    assert process == made()


def test_pickles_in_another_program():
    """Where other elements came first."""
    child = (
        "import sys, pickle, numpy, fastlam\n"
        "fastlam.Diffusion('7', 't', {'x0': 1})\n"
        "process = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "print(fastlam.simulate(process, numpy.arange(1, 4) / 4, 2, seed=7).tobytes().hex())"
    )
    process = fastlam.Diffusion("mu", "sigma", {"x0": 1.5, "mu": 0.3, "sigma": 0.7})
    arguments = [sys.executable, "-c", child, pickle.dumps(process).hex()]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()
    assert answer == fastlam.simulate(process, np.arange(1, 4) / 4, 2, seed=7).tobytes().hex()
