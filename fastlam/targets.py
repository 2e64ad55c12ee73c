"""Targets k, one number for each time: what `fit` and `calibrate` take, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlam import arrays


def checked_targets(caller: str, k: Any, m: int, of: str) -> np.ndarray:
    """`k` as a float64 array (m,); raise TypeError or ValueError unless it is m finite numbers, one for each `of`."""
    targets = arrays.host_array(k, f"{caller}: k")
    if targets.dtype.kind not in "iu" and arrays.dtype_name(targets) not in arrays.FLOATS:
        raise TypeError(f"{caller}: k has dtype {targets.dtype}, but must be float32, float64 or of integers")
    targets = np.array(targets, np.float64)
    if targets.shape != (m,):
        raise ValueError(f"{caller}: k must have shape {(m,)}, one target for each {of}, but has {targets.shape}")
    for j in np.flatnonzero(~np.isfinite(targets))[:1]:
        raise ValueError(f"{caller}: k must be finite, but k[{j}] = {targets[j]}")
    return targets
