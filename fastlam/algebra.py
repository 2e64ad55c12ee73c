"""The operations of a formula in SymPy, each checked as it is made: real, finite, of a few functions, not slow."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import sympy

POWER = 64  # the largest number that is an exponent
NESTING = 8  # of functions, roots and powers in one another: each can make SymPy three times slower
ARGUMENTS = 10  # of a min or max: SymPy compares each with each, a millisecond a pair
BITS = 1_100  # of the two parts of a fraction: enough for every float64, subnormal ones too
# SymPy simplifies functions of arguments up to this size. Larger ones stay as they are written: in some of them it
# loses itself for ever, as in cosh((x + sqrt(t))**64).
SMALL_NODES, SMALL_DEPTH = 20, 1


class RefusedError(Exception):
    """What is wrong with an operation, in words that follow a comma."""


Operation = tuple[Any, Callable[..., Any]]  # on expressions, and on floats
ADD: Operation = (operator.add, operator.add)
SUBTRACT: Operation = (operator.sub, operator.sub)
MULTIPLY: Operation = (operator.mul, operator.mul)
DIVIDE: Operation = (operator.truediv, operator.truediv)
RAISE: Operation = (sympy.Pow, operator.pow)
NEGATE: Operation = (operator.neg, operator.neg)
KEEP: Operation = (operator.pos, operator.pos)
FUNCTIONS: dict[str, Operation] = {
    "exp": (sympy.exp, math.exp),
    "log": (sympy.log, math.log),
    "sqrt": (sympy.sqrt, math.sqrt),
    "sin": (sympy.sin, math.sin),
    "cos": (sympy.cos, math.cos),
    "tan": (sympy.tan, math.tan),
    "sinh": (sympy.sinh, math.sinh),
    "cosh": (sympy.cosh, math.cosh),
    "tanh": (sympy.tanh, math.tanh),
    "abs": (sympy.Abs, abs),
    "min": (sympy.Min, min),
    "max": (sympy.Max, max),
}
NODES: dict[type, Operation] = {  # of SymPy's trees
    **{operation[0]: operation for name, operation in FUNCTIONS.items() if name != "sqrt"},  # that is a Pow
    sympy.Add: (sympy.Add, lambda *terms: math.fsum(terms)),
    sympy.Mul: (sympy.Mul, lambda *factors: math.prod(factors)),
    sympy.Pow: RAISE,
}
_LINEAR = {operator.add, operator.sub, operator.mul, operator.neg, operator.pos, sympy.Add, sympy.Mul}
_OF_FRACTIONS = _LINEAR | {operator.truediv, sympy.Pow, sympy.Abs, sympy.Min, sympy.Max}  # make fractions of fractions
_FOREIGN = "which SymPy turns into other functions"


class Algebra:
    """Makes the expressions of one formula, and remembers what it has found out about their parts."""

    def __init__(self) -> None:
        self._measures: dict[sympy.Expr, tuple[int, int, str]] = {}

    def apply(self, operation: Operation, *args: sympy.Expr) -> sympy.Expr:
        """The operation on expressions that were made here: a number if they are constants.

        Raises
        ------
        RefusedError
            The answer cannot be real and finite, or would take too long.
        """
        function = operation[0]
        _check(function, args)
        if all(map(_is_constant, args)):
            return self._constant(operation, args)
        if function is operator.truediv:
            return self.apply(MULTIPLY, args[0], self.apply(RAISE, args[1], sympy.S.NegativeOne))
        nodes, depths, _ = zip(*map(self._measure, args), strict=True)
        is_small = max(nodes) <= SMALL_NODES and max(depths) <= SMALL_DEPTH
        is_easy = function in _LINEAR or (function is sympy.Pow and args[1].is_Integer)
        value = function(*args) if is_small or is_easy else function(*args, evaluate=False)
        if self._measure(value)[2] == _FOREIGN and function not in _LINEAR:  # a cot of tan(x/2 + pi/2): leave the tan
            value = function(*args, evaluate=False)
        fault = self._measure(value)[2]
        if fault:
            raise RefusedError(fault)
        if is_small and value.is_extended_real is False:
            raise RefusedError("which is never a real number")
        return self._constant(KEEP, (value,)) if _is_constant(value) else value

    def _constant(self, operation: Operation, args: tuple[sympy.Expr, ...]) -> sympy.Expr:
        """Exact for fractions and multiples of pi and E where the answer is one, or else what Python computes."""
        function, of_floats = operation
        try:
            number = of_floats(*map(float, args))
        except ZeroDivisionError:
            raise RefusedError("a division by zero") from None
        except (TypeError, ValueError, OverflowError):  # the float of a complex number, log(0), exp(1000)
            number = math.nan
        if isinstance(number, complex) or not math.isfinite(number):
            raise RefusedError("which is not a finite real number")
        is_root = function is sympy.Pow and not args[1].is_Integer  # SymPy would look for factors
        if function in _OF_FRACTIONS and not is_root and all(map(_is_exact, args)):
            value = function(*args)
            if _is_exact(value) and not self._measure(value)[2]:
                return value
        return sympy.Float(number)

    def _measure(self, value: sympy.Expr) -> tuple[int, int, str]:
        """Of `value`: its nodes, how deep functions and roots are nested in it, and its fault or nothing."""
        if value not in self._measures:
            parts = [self._measure(part) for part in value.args]
            depth = max((part[1] for part in parts), default=0)
            is_rational = value.is_Pow and depth == 0 and value.exp.is_Integer
            if not (value.is_Atom or value.is_Add or value.is_Mul or is_rational):
                depth += 2 if isinstance(value, (sympy.Min, sympy.Max)) else 1  # those SymPy compares again and again
            fault = next((part[2] for part in parts if part[2]), "") or _fault(value)
            if depth > NESTING:
                fault = fault or f"functions nested deeper than {NESTING}, where a min or max counts twice"
            self._measures[value] = 1 + sum(part[0] for part in parts), depth, fault
        return self._measures[value]


def _check(function: Any, args: tuple[sympy.Expr, ...]) -> None:
    """Refuse what takes for ever, and what is complex for nearly every exponent."""
    last = float(args[-1]) if _is_constant(args[-1]) else None
    if function is sympy.Pow and last is not None and abs(last) > POWER:
        raise RefusedError(f"a power above {POWER}")
    if function is sympy.Pow and last is None and _is_constant(args[0]) and float(args[0]) < 0:
        raise RefusedError("a power of a negative number, which is complex unless the exponent is whole")
    if function in (sympy.Min, sympy.Max):
        n = sum(len(arg.args) if isinstance(arg, function) else 1 for arg in args)  # a max in a max is one max
        if n > ARGUMENTS:
            raise RefusedError(f"of {n} arguments, but at most {ARGUMENTS} are accepted")


def _is_constant(value: sympy.Expr) -> bool:
    return not value.free_symbols


def _is_exact(value: sympy.Expr) -> bool:
    factor, rest = value.as_coeff_Mul()
    return factor.is_Rational and rest in (sympy.S.One, sympy.pi, sympy.E)


def _fault(value: sympy.Expr) -> str:
    """Why `value`, whose parts are sound, cannot be computed; nothing if it can."""
    if value.is_Rational and max(value.p.bit_length(), value.q.bit_length()) > BITS:
        return f"which has a fraction of more than {BITS:,} bits"
    if value.is_Number and not math.isfinite(float(value)):
        return "which has a number beyond float64"
    if value.is_Pow and value.exp.is_Number and abs(float(value.exp)) > POWER:
        return f"a power above {POWER}"
    if value.is_Number or value.is_Symbol or value in (sympy.pi, sympy.E) or type(value) in NODES:
        return ""
    return _FOREIGN if isinstance(value, sympy.Function) else "which is not a finite real number"
