"""What the tests of formulas share: names that are known, and how a drift is read over them."""

import sympy

from fastlam.expressions import read

NAMES = ("x", "t", "theta", "mu", "sigma", "strike", "a", "b")
SYMBOLS = {name: sympy.Symbol(name, real=True) for name in NAMES}
plain_x = sympy.Symbol("x")


def drift(text):
    return read(text, SYMBOLS, "Diffusion: drift")
