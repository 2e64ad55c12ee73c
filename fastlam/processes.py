"""The diffusions: their parameters, checks and element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from reprlib import repr as brief
from typing import Any, ClassVar

from fastlam.elements import Dynamics, register
from fastlam.kernels.brownian import brownian, brownian_coefficients
from fastlam.kernels.cox_ingersoll_ross import cox_ingersoll_ross, cox_ingersoll_ross_coefficients, seen
from fastlam.kernels.geometric_brownian import geometric_brownian, geometric_brownian_coefficients
from fastlam.kernels.identity import identity
from fastlam.kernels.ornstein_uhlenbeck import ornstein_uhlenbeck, ornstein_uhlenbeck_coefficients
from fastlam.parameters import checked


class Process:
    """What every diffusion is: parameters, `x0` the last of them, and an element that makes one step of one path.

    A subclass is a frozen dataclass whose fields are its parameters: each a number, or a tensor of one element, which
    `simulate_mean` and `simulate_mean_square` differentiate in. It names elements, `@njit(inline="always")` functions:

    * `coefficients(t, dt, parameters)` returns the `n_coefficients` numbers that a step from t to t + dt takes,
      computed in float64 once for all paths; `parameters` are the fields without `x0`, in order;
    * `step(x, z, coefficients)` returns the state after that step with the normal z;
    * `observe(x)`, where a path is not the state itself, what is seen of it.

    Parameters in `nonnegative` are refused below 0. Derivatives are found by SymPy: nobody writes them.
    """

    step: ClassVar[Callable[..., Any]]
    coefficients: ClassVar[Callable[..., Any]]
    n_coefficients: ClassVar[int]
    observe: ClassVar[Callable[..., Any]] = staticmethod(identity)
    nonnegative: ClassVar[tuple[str, ...]] = ()
    handle: int  # of its elements' record
    x0: Any

    def __post_init__(self) -> None:
        for name, value in self.parameters().items():
            least = 0.0 if name in self.nonnegative else None
            object.__setattr__(self, name, checked(f"{type(self).__name__}: {name}", value, least))

    def parameters(self) -> dict[str, Any]:
        """Parameters by name, `x0` the last."""
        return {name: getattr(self, name) for name in _names(self)}

    def __init_subclass__(cls, **names: Any) -> None:
        super().__init_subclass__(**names)
        cls.handle = register(cls._dynamics)

    @classmethod
    def _dynamics(cls) -> Dynamics:
        names = _names(cls)
        for element in ("step", "coefficients", "observe"):
            if not hasattr(getattr(cls, element, None), "py_func"):
                raise TypeError(
                    f'{cls.__name__}: {element} must be a function under numba\'s @njit(inline="always"), held by '
                    f"staticmethod, but is {getattr(cls, element, 'missing')!r}"
                )
        if type(getattr(cls, "n_coefficients", None)) is not int:
            raise TypeError(f"{cls.__name__}: n_coefficients, how many values coefficients returns, must be an integer")
        least = tuple([0.0 if name in cls.nonnegative else None for name in names])
        return Dynamics(cls.step, cls.coefficients, cls.n_coefficients, cls.observe, names, least)


def check_process(name: str, process: Any) -> None:
    """Raise TypeError unless this is a diffusion."""
    if not isinstance(process, Process):
        raise TypeError(f"{name}: process must be a diffusion such as fastlam.Brownian, but is {brief(process)}")


def _names(process: Any) -> tuple[str, ...]:
    """Fields of a dataclass or one of its instances, x0 the last."""
    names = [field.name for field in fields(process)] if is_dataclass(process) else []
    if "x0" not in names:
        kind = process if isinstance(process, type) else type(process)
        raise TypeError(f"{kind.__name__}: a process must be a dataclass with a field x0, its state at time 0")
    return (*[name for name in names if name != "x0"], "x0")


@dataclass(frozen=True)
class Brownian(Process):
    """Brownian motion with drift, `dX = mu dt + sigma dW`, started in `x0` at time 0; simulated exactly.

    Parameters
    ----------
    mu : float or tensor
        Drift, in units of x per unit of time.
    sigma : float or tensor
        Volatility, at least 0, in units of x per square root of time.
    x0 : float or tensor
        State at time 0.

    Raises
    ------
    TypeError, ValueError
        A parameter that is not one real number, is NaN or infinite, or `sigma < 0`.

    Examples
    --------
    >>> Brownian(mu=0.05, sigma=0.2)
    Brownian(mu=0.05, sigma=0.2, x0=0.0)
    """

    mu: Any = 0.0
    sigma: Any = 1.0
    x0: Any = 0.0

    step = staticmethod(brownian)
    coefficients = staticmethod(brownian_coefficients)
    n_coefficients = 2
    nonnegative = ("sigma",)


@dataclass(frozen=True)
class GeometricBrownian(Process):
    """Geometric Brownian motion, `dX = mu X dt + sigma X dW`, started in `x0`; simulated exactly.

    Parameters
    ----------
    mu : float or tensor
        Rate of growth, per unit of time.
    sigma : float or tensor
        Volatility, at least 0, per square root of time.
    x0 : float or tensor
        State at time 0, of any sign.

    Raises
    ------
    TypeError, ValueError
        A parameter that is not one real number, is NaN or infinite, or `sigma < 0`.

    Examples
    --------
    >>> GeometricBrownian(mu=0.05, sigma=0.2, x0=100)
    GeometricBrownian(mu=0.05, sigma=0.2, x0=100.0)

    Source: Samuelson, Industrial Management Review 6 (1965); Black and Scholes, 1973.
    """

    mu: Any = 0.0
    sigma: Any = 1.0
    x0: Any = 1.0

    step = staticmethod(geometric_brownian)
    coefficients = staticmethod(geometric_brownian_coefficients)
    n_coefficients = 2
    nonnegative = ("sigma",)


@dataclass(frozen=True)
class OrnsteinUhlenbeck(Process):
    """Ornstein-Uhlenbeck process, `dX = theta (mu - X) dt + sigma dW`, started in `x0`; simulated exactly.

    Parameters
    ----------
    theta : float or tensor
        Rate of return to the mean, per unit of time; 0 is a Brownian motion, below 0 it runs away.
    mu : float or tensor
        Mean in the long run, in units of x.
    sigma : float or tensor
        Volatility, at least 0, in units of x per square root of time.
    x0 : float or tensor
        State at time 0.

    Raises
    ------
    TypeError, ValueError
        A parameter that is not one real number, is NaN or infinite, or `sigma < 0`.

    Examples
    --------
    >>> OrnsteinUhlenbeck(theta=2, mu=1, sigma=0.3)
    OrnsteinUhlenbeck(theta=2.0, mu=1.0, sigma=0.3, x0=0.0)

    Source: Uhlenbeck and Ornstein, Physical Review 36 (1930); Vasicek, Journal of Financial Economics 5 (1977).
    """

    theta: Any = 1.0
    mu: Any = 0.0
    sigma: Any = 1.0
    x0: Any = 0.0

    step = staticmethod(ornstein_uhlenbeck)
    coefficients = staticmethod(ornstein_uhlenbeck_coefficients)
    n_coefficients = 3
    nonnegative = ("sigma",)


@dataclass(frozen=True)
class CoxIngersollRoss(Process):
    """Square-root process, `dX = kappa (theta - X) dt + sigma sqrt(X) dW`, started in `x0`.

    Simulated by the full-truncation Euler scheme: a step for each of the times, with an error of the order of the
    longest step (weak order 1); so give it more times than are wanted where they lie far apart.

    Parameters
    ----------
    kappa : float or tensor
        Rate of return to the mean, at least 0, per unit of time.
    theta : float or tensor
        Mean in the long run, at least 0, in units of x.
    sigma : float or tensor
        Volatility, at least 0, in units of sqrt(x) per square root of time.
    x0 : float or tensor
        State at time 0, at least 0.

    Raises
    ------
    TypeError, ValueError
        A parameter that is not one real number, is NaN or infinite, or below 0.

    Examples
    --------
    >>> CoxIngersollRoss(kappa=2, theta=0.04, sigma=0.3, x0=0.04)
    CoxIngersollRoss(kappa=2.0, theta=0.04, sigma=0.3, x0=0.04)

    Source: Cox, Ingersoll and Ross, Econometrica 53 (1985); the scheme: Lord, Koekkoek and van Dijk, Quantitative
    Finance 10 (2010).
    """

    kappa: Any = 1.0
    theta: Any = 1.0
    sigma: Any = 1.0
    x0: Any = 1.0

    step = staticmethod(cox_ingersoll_ross)
    coefficients = staticmethod(cox_ingersoll_ross_coefficients)
    n_coefficients = 3
    observe = staticmethod(seen)
    nonnegative = ("kappa", "theta", "sigma", "x0")
