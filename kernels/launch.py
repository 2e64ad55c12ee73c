"""Compile a kernel on first use, keep it, hand it out. One lock: two threads never compile the same kernel twice.

What a kernel is made of is made once too, and kept: made anew it would be another element, and want another kernel.
"""

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

from numba import njit

from .refusal import refusal

_lock = threading.RLock()
# A fork waits for a compilation under way: its child would find numba's locks held for ever.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function to be called once for the same arguments, of the same types: the first answer is kept.

    Of what is within tuples the types are not looked at. Whatever threads ask, all get that answer. It stays as long as
    the program runs, as the kernels made of it do.
    """
    kept = functools.lru_cache(maxsize=None, typed=True)  # True is no 1
    made = kept(function)  # asked by one thread at a time

    def call(*arguments: Any) -> Any:
        with _lock:
            return made(*arguments)

    return functools.wraps(function)(kept(call))


@once
def compiled(make: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """The kernel that `make(*arguments)` describes as (function, signature), compiled for this processor."""
    function, signature = make(*arguments)
    try:
        kernel: Callable[..., Any] = njit(signature, nogil=True, error_model="numpy")(function)
    except Exception as error:  # of numba's, which has no one root
        raise TypeError(refusal(arguments, error)) from error
    return kernel
