"""Compile a kernel on first use, keep it, hand it out. One lock: two threads never compile the same kernel twice."""

import os
import threading
from collections.abc import Callable
from typing import Any

from numba import njit

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
                kernel = njit(signature, nogil=True, error_model="numpy")(function)
                _kernels[key] = kernel
    return kernel
