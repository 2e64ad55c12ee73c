"""What is averaged over paths: the functionals, their parameters, checks and element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from reprlib import repr as brief
from typing import Any, ClassVar

from fastlam.elements import Payoff, constant, register
from fastlam.kernels.adding import adding
from fastlam.kernels.launch import once
from fastlam.kernels.polynomial import polynomial
from fastlam.kernels.square import add_square, square
from fastlam.parameters import ByArguments, check_expression, checked, named_parameters

MAX_DEGREE = 8


class PathFunctional:
    """What every functional is: parameters, and an element that gives f at one point.

    A subclass is a frozen dataclass whose fields are its parameters: each a number, or a tensor of one element, which
    `mean` and `simulate_mean` differentiate in. It names its element, an `@njit(inline="always")` function:

    * `value(x, parameters)` returns f(x); x is float64, `parameters` are the fields, in order, as float64.

    `factor`, 1 unless it says otherwise, multiplies the mean, outside the sum. Derivatives are found by SymPy: nobody
    writes them.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import fastlam, numpy as np
    >>> from numba import njit
    >>> from fastlam.kernels.selection import positive
    >>> @njit(inline="always")
    ... def call(x, parameters):
    ...     (strike,) = parameters
    ...     return positive(x - strike)
    >>> @dataclass(frozen=True)
    ... class Call(fastlam.PathFunctional):
    ...     strike: float
    ...     value = staticmethod(call)
    >>> fastlam.mean(Call(strike=2.0), np.array([[1.0, 3.0]]))
    array([0.5])
    """

    value: ClassVar[Callable[..., Any]]
    handle: int  # of its elements' record
    factor: Any = 1.0

    def __init_subclass__(cls, **names: Any) -> None:
        super().__init_subclass__(**names)
        if "value" in cls.__dict__:
            cls.handle = register(cls._payoff)

    def __post_init__(self) -> None:
        for name, value in self.parameters().items():
            object.__setattr__(self, name, checked(f"{type(self).__name__}: {name}", value))

    def parameters(self) -> dict[str, Any]:
        """Parameters by name."""
        return {name: getattr(self, name) for name in _names(self)}

    @classmethod
    def _payoff(cls) -> Payoff:
        return Payoff(cls.value, adding(cls.value), _names(cls))


def _names(functional: Any) -> tuple[str, ...]:
    """Fields of a dataclass or one of its instances."""
    if not is_dataclass(functional):
        kind = functional if isinstance(functional, type) else type(functional)
        raise TypeError(f"{kind.__name__}: a functional must be a dataclass, whose fields are its parameters")
    return tuple([field.name for field in fields(functional)])


def check_functional(name: str, functional: Any) -> None:
    """Raise TypeError unless this is a functional with an element."""
    if not isinstance(functional, PathFunctional):
        raise TypeError(f"{name}: functional must be one such as fastlam.Square, but is {brief(functional)}")
    if not hasattr(functional, "handle"):
        raise TypeError(f"{name}: functional is a {type(functional).__name__}, whose class has no element `value`")


class Square(ByArguments, PathFunctional):
    """`f(x) = lam * x**2`.

    Parameters
    ----------
    lam : float, array or tensor
        A scalar, or of a shape that broadcasts to the answer's.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlam
    >>> fastlam.mean(fastlam.Square(0.5), np.array([[1.0, 3.0]]))
    array([2.5])
    """

    handle = register(lambda: Payoff(square, add_square, ()))

    def __init__(self, lam: Any = 1.0) -> None:
        self.factor = lam

    def parameters(self) -> dict[str, Any]:
        """None: lam stays outside the sum."""
        return {}

    def arguments(self) -> tuple[Any, ...]:
        """Arguments in order."""
        return (self.factor,)

    def __repr__(self) -> str:
        return f"Square(lam={self.factor!r})"


def _polynomial(n: int) -> int:
    names = ("center", *(f"c_{p}" for p in range(n)))
    return register(lambda: Payoff(polynomial, adding(polynomial), names))


POLYNOMIALS = {n: _polynomial(n) for n in range(1, MAX_DEGREE + 2)}  # handles by the number of coefficients


class Polynomial(ByArguments, PathFunctional):
    """`f(x) = sum_p c_p (x - a)**p`, evaluated by Horner's rule in float64.

    Parameters
    ----------
    coefficients : sequence of floats or tensors, or a 1-D array or tensor
        c_0, c_1, ...: up to degree 8.
    center : float or tensor
        a.

    Raises
    ------
    TypeError, ValueError
        A coefficient that is not one finite real number, none, or more than nine.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlam
    >>> fastlam.mean(fastlam.Polynomial([1, 0, 2], center=1.0), np.array([[1.0, 3.0]]))  # 1 + 2 (x - 1)**2
    array([5.])
    """

    def __init__(self, coefficients: Sequence[Any], center: Any = 0.0) -> None:
        if getattr(coefficients, "ndim", 1) != 1 or isinstance(coefficients, (str, bytes, dict, set)):
            raise TypeError(f"Polynomial: coefficients must be a sequence of numbers, but is {coefficients!r}")
        values = list(coefficients)
        if not 1 <= len(values) <= MAX_DEGREE + 1:
            raise ValueError(
                f"Polynomial: coefficients must hold 1 to {MAX_DEGREE + 1} numbers, but hold {len(values)}"
            )
        self._parameters = {"center": checked("Polynomial: center", center)}
        self._parameters |= {f"c_{p}": checked(f"Polynomial: coefficients[{p}]", c) for p, c in enumerate(values)}
        self.handle = POLYNOMIALS[len(values)]

    def parameters(self) -> dict[str, Any]:
        """The center, then the coefficients."""
        return dict(self._parameters)

    def arguments(self) -> tuple[Any, ...]:
        """Arguments in order."""
        center, *coefficients = self._parameters.values()
        return coefficients, center

    def __repr__(self) -> str:
        coefficients, center = self.arguments()
        return f"Polynomial({coefficients!r}, center={center!r})"


class Functional(ByArguments, PathFunctional):
    """Any functional of one state, `f(x)`, given as an expression; evaluated in float64.

    Parameters
    ----------
    expression : str, SymPy expression or number
        In `x` and named parameters. Text may hold numbers, names, `+ - * / **`, parentheses, `pi`, exp,
        log, sqrt, sin, cos, tan, sinh, cosh, tanh, abs, min and max. A power whose exponent is not a number in the text
        is `exp(exponent * log(base))`: NaN for a base below 0, whatever the exponent.
    parameters : mapping of names to floats or tensors, optional
        In those that are tensors the mean is differentiable. Where arguments of a max or min are equal each has half
        the slope; beside a number none, and so at the kink of `abs(x)` and of `max(x - k, 0)`.
        Those that the expression does not name do nothing.

    Raises
    ------
    TypeError, ValueError
        Text that is none of the above, with the position; a name that `parameters` lacks; a parameter that is not one
        finite real number.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlam
    >>> call = fastlam.Functional("max(x - strike, 0)", {"strike": 2.0})
    >>> fastlam.mean(call, np.array([[1.0, 3.0]]))
    array([0.5])
    """

    def __init__(self, expression: Any, parameters: Mapping[str, Any] | None = None) -> None:
        self.expression = expression
        self._parameters = named_parameters("Functional", {} if parameters is None else parameters, ("x", "pi"))
        self.handle = _handle(expression, tuple(self._parameters))

    def parameters(self) -> dict[str, Any]:
        """Parameters by name."""
        return dict(self._parameters)

    def arguments(self) -> tuple[Any, ...]:
        """Arguments in order."""
        return self.expression, self._parameters

    def __repr__(self) -> str:
        return f"Functional({str(self.expression)!r}, {self._parameters!r})"


@constant
def _handle(expression: Any, names: tuple[str, ...]) -> int:
    check_expression("Functional: expression", expression)
    return _registered(expression, names)


@once
def _registered(expression: Any, names: tuple[str, ...]) -> int:
    from fastlam.schemes import functional  # now: SymPy is needed for those that come as text alone

    value = functional(expression, names)
    return register(lambda: Payoff(value, adding(value), names))
