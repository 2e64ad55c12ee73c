"""What to say of elements that do not compile: which they are, and what is wrong. And which of them raise."""

import dis
import inspect
from collections.abc import Callable, Iterator
from typing import Any

AROUND = "Failed in ", "During: "  # how lines of numba's begin that say where it was


def refusal(arguments: Any, error: Exception) -> str:
    """Of elements that do not compile: what numba has against them."""
    taken = "as njit functions of what README says they take"
    return f"the elements {names(arguments)} do not compile together, {taken}: {_cause(error)}"


def names(arguments: Any) -> str:
    """Of the elements among a kernel's arguments."""
    return ", ".join(dict.fromkeys(getattr(element, "__qualname__", repr(element)) for element in elements(arguments)))


def elements(arguments: Any) -> Iterator[Callable[..., Any]]:
    """Those among a kernel's arguments, which may stand in tuples."""
    for argument in arguments:
        if isinstance(argument, tuple):
            yield from elements(argument)
        elif callable(argument):
            yield argument


def raises(element: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Does an njit function raise or assert anything, or one that it calls by its name?

    >>> from numba import njit
    >>> @njit
    ... def root(x):
    ...     assert x >= 0
    ...     return x**0.5
    >>> raises(root), raises(njit(lambda x: x + root(x))), raises(njit(lambda x: x))
    (True, True, False)
    """
    function = getattr(element, "py_func", None)
    if function is None or function in seen:
        return False
    if any(instruction.opname == "RAISE_VARARGS" for instruction in dis.get_instructions(function)):
        return True
    named = inspect.getclosurevars(function)
    return any(raises(other, seen | {function}) for other in (*named.nonlocals.values(), *named.globals.values()))


def _cause(error: Exception) -> str:
    """The line that says what is wrong: others of numba's say where it was noticed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = next((line for line in lines if not line.startswith(AROUND)), type(error).__name__)
    if cause.startswith("No implementation of "):
        ours = (line for line in lines if "values are wanted" in line)  # of memory.exactly
        called = (f"{cause} {line.removeprefix('>>> ')}" for line in lines if line.startswith(">>> "))
        return next(ours, next(called, cause))
    if cause.startswith("NameError: "):
        return f"{cause}, or it is nothing that compiles"
    if isinstance(error, KeyError):  # of functions of NumPy on GPUs
        return f"numba does not know {cause}"
    return cause
