"""Compile a kernel on first use, keep it, hand it out. One lock: two threads never compile the same kernel twice.

What a kernel is made of is made once too, and kept: made anew it would be another element, and want another kernel.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from numba import njit
from numba.core.errors import NumbaError

_kernels: dict[tuple[Any, ...], Callable[..., Any]] = {}
_lock = threading.RLock()
# A fork waits for a compilation under way: its child would find numba's locks held for ever.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def compiled(make: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """The kernel that `make(*arguments)` describes as (function, signature), compiled for this processor."""
    key = (make, *arguments)
    kernel = _kernels.get(key)
    if kernel is None:
        with _lock:
            kernel = _kernels.get(key)
            if kernel is None:
                function, signature = make(*arguments)
                try:
                    kernel = njit(signature, nogil=True, error_model="numpy")(function)
                except NumbaError as error:
                    raise TypeError(refusal(arguments, str(error))) from error
                _kernels[key] = kernel
    return kernel


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function to be called once for the same arguments, of the same types: the first answer is kept.

    Whatever threads ask, all get that one. It stays as long as the program runs, as the kernels made of it do.
    """
    answers: dict[Any, Any] = {}

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        key = (*arguments, *map(type, arguments))  # True is no 1
        if key not in answers:
            with _lock:
                if key not in answers:
                    answers[key] = function(*arguments)
        return answers[key]

    return call


def refusal(arguments: Any, reason: str) -> str:
    """What to say of elements that do not compile: which they are, and what numba has against them."""
    names, taken = ", ".join(dict.fromkeys(_names(arguments))), "as njit functions of what README says they take"
    return f"the elements {names} do not compile together, {taken}: {_cause(reason)}"


def _cause(reason: str) -> str:
    """The line of numba's that says what is wrong: the others say where that was noticed."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    cause = next((line for line in lines if not line.startswith(("Failed in ", "During: "))), lines[-1])
    if cause.startswith("No implementation of "):
        ours = (line for line in lines if "values are wanted" in line)  # of memory.exactly
        called = (f"{cause} {line.removeprefix('>>> ')}" for line in lines if line.startswith(">>> "))
        return next(ours, next(called, cause))
    if cause.startswith("NameError: "):
        return f"{cause}, or it is nothing that compiles"
    return cause


def _names(arguments: Any) -> Iterator[str]:
    for argument in arguments:
        if isinstance(argument, tuple):
            yield from _names(argument)
        elif callable(argument):
            yield getattr(argument, "__qualname__", repr(argument))
