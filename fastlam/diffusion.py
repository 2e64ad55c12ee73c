"""The door for every other diffusion: drift and diffusion as text or SymPy expressions, made an element by SymPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastlam.elements import Dynamics, constant, register
from fastlam.kernels.identity import identity
from fastlam.kernels.launch import once
from fastlam.parameters import ByArguments, check_expression, named_parameters
from fastlam.processes import Process

SCHEMES = ("euler", "milstein")
RESERVED = ("x", "t", "z", "dt", "pi")


class Diffusion(ByArguments, Process):
    """Any scalar diffusion, `dX = drift(X, t) dt + diffusion(X, t) dW`, by a step of a scheme between each two times.

    Parameters
    ----------
    drift, diffusion : str, SymPy expression or number
        In `x`, `t` and named parameters. Text may hold numbers, names, `+ - * / **`, parentheses, `pi`, exp,
        log, sqrt, sin, cos, tan, sinh, cosh, tanh, abs, min and max. A power whose exponent is not a number in the text
        is `exp(exponent * log(base))`: NaN for a base below 0, whatever the exponent.
    parameters : mapping of names to floats or tensors
        `x0`, the state at time 0, among them. In those that are tensors `simulate_mean` is differentiable: at
        the kinks of max, min and abs as `Functional`.
        Those that drift and diffusion do not name do nothing.
    scheme : str
        "euler" (Euler-Maruyama: strong order 1/2, weak order 1; exact where drift and diffusion are constants) or
        "milstein" (strong order 1). The error is of the order of the longest step: give it more times than are wanted
        where they lie far apart.

    Raises
    ------
    TypeError, ValueError
        Text that is none of the above, with the position; a name that `parameters` lacks; a parameter that is not one
        finite real number.

    Examples
    --------
    >>> import fastlam, numpy as np
    >>> process = fastlam.Diffusion("kappa * (theta - x)", "sigma * sqrt(max(x, 0))",
    ...                             {"kappa": 2.0, "theta": 0.04, "sigma": 0.3, "x0": 0.04}, scheme="milstein")
    >>> fastlam.simulate(process, np.arange(1, 13) / 12, n_paths=1000, seed=7).shape
    (12, 1000)

    Source: Kloeden and Platen, Numerical Solution of Stochastic Differential Equations (1992), sections 10.2 and 10.3.
    """

    def __init__(self, drift: Any, diffusion: Any, parameters: Mapping[str, Any], scheme: str = "euler") -> None:
        self.drift, self.diffusion, self.scheme = drift, diffusion, scheme
        self._parameters = named_parameters("Diffusion", parameters, RESERVED)
        if "x0" not in self._parameters:
            raise ValueError("Diffusion: parameters must hold x0, the state at time 0")
        self._parameters["x0"] = self._parameters.pop("x0")  # the last
        if not isinstance(scheme, str) or scheme not in SCHEMES:
            raise ValueError(f"Diffusion: scheme must be one of {', '.join(SCHEMES)}, but is {scheme!r}")
        self.handle = _handle(drift, diffusion, tuple(self._parameters), scheme)

    def __repr__(self) -> str:
        return f"Diffusion({str(self.drift)!r}, {str(self.diffusion)!r}, {self._parameters!r}, scheme={self.scheme!r})"

    def arguments(self) -> tuple[Any, ...]:
        """Arguments in order."""
        return self.drift, self.diffusion, self._parameters, self.scheme

    def parameters(self) -> dict[str, Any]:
        """Parameters by name, `x0` the last."""
        return dict(self._parameters)


@constant
def _handle(drift: Any, diffusion: Any, names: tuple[str, ...], scheme: str) -> int:
    check_expression("Diffusion: drift", drift)
    check_expression("Diffusion: diffusion", diffusion)
    return _registered(drift, diffusion, names, scheme)


@once
def _registered(drift: Any, diffusion: Any, names: tuple[str, ...], scheme: str) -> int:
    from fastlam.schemes import elements  # now: SymPy is needed for those that come as text alone

    step, coefficients, n_coefficients = elements(drift, diffusion, names[:-1], scheme)
    made = Dynamics(step, coefficients, n_coefficients, identity, names, (None,) * len(names))
    return register(lambda: made)
