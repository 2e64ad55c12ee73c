"""The one division that solves k = lam s by least squares, and its standard error; of any size of s and k."""

from __future__ import annotations

import math
import sys

import numpy as np

from fastlam.descent import Units, exponent, times_power


def closed_form_lam(s: np.ndarray, k: np.ndarray) -> tuple[float, float, float]:
    """Lam, its standard error for independent residuals of any variances (White, 1980), and |k| / |s|, its size."""
    unit = Units(exponent(s), exponent(k))
    (s, k), n = unit.divide(s, k), len(s)
    square = float(s @ s)
    lam = float(s @ k) / square
    error = math.sqrt(n / (n - 1) * float(np.sum((s * (k - lam * s)) ** 2))) / square if n > 1 else math.nan
    closed_form, stderr, size = (times_power(v, unit.lam) for v in (lam, error, float(np.linalg.norm(k)) / square**0.5))
    if not math.isfinite(closed_form) or (lam != 0 and abs(closed_form) < sys.float_info.min):
        raise ValueError(
            f"fit: k / mean(x**2) is about 2**{unit.lam}, which float64 cannot hold: scale x or k, whose largest are "
            f"about 2**{unit.s} (of its mean squares) and 2**{unit.k}"
        )
    return closed_form, stderr, size
