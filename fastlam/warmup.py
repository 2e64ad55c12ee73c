"""Compile ahead of the first use."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fastlam import arrays, rows
from fastlam.paths import simulate
from fastlam.processes import Brownian
from fastlam.stream import path_dtype


def warmup(dtypes: Any = arrays.FLOATS) -> None:
    """Compile the kernels of `mean_square`, and of `simulate` for `Brownian`, now and not on their first use.

    That takes ten to twenty seconds for both dtypes. Other processes, and the kernels of one pass, are compiled
    on their own first use: a call with `n_paths=1` does it.

    Parameters
    ----------
    dtypes : dtype, or tuple or list of them
        float32, float64 or both, as NumPy's, torch's or text.

    Raises
    ------
    TypeError
        Another dtype, or none.

    Examples
    --------
    >>> import fastlam
    >>> fastlam.warmup(dtypes=("float32",))
    """
    several = dtypes if isinstance(dtypes, (tuple, list)) else (dtypes,)
    if not several or not all(isinstance(dtype, (str, type, np.dtype, torch.dtype)) for dtype in several):
        raise TypeError(f"warmup: dtypes must be float32, float64 or both, but is {dtypes!r}")
    for real in [path_dtype("warmup", dtype, None) for dtype in several]:
        for antithetic in (False, True):
            simulate(Brownian(), np.ones(1, real), 1, seed=0, antithetic=antithetic)
        rows.warmup(real)
