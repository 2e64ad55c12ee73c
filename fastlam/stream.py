"""What a simulation is asked for: which paths of which family, in which dtype, at which times. Checked here."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from fastlam import arrays
from fastlam.attach import has_tangent


class Stream(NamedTuple):
    """Paths `first_path` to `first_path + n_paths` of the family of a seed, in the dtype `real`."""

    seed: int
    first_path: int
    n_paths: int
    antithetic: bool
    real: str

    @property
    def key(self) -> tuple[int, int]:
        """The seed as the two 32-bit words of Philox's key."""
        return self.seed % 2**32, self.seed >> 32

    @property
    def unit(self) -> int:
        """Paths that are one draw of the noise: a standard error counts units."""
        return 2 if self.antithetic else 1


def stream(
    name: str, seed: Any, first_path: Any, n_paths: Any, antithetic: Any, dtype: Any, times: Any, most: int = 2**62
) -> Stream:
    """The paths asked of the function `name`; raise TypeError or ValueError where there are none such."""
    n = arrays.check_integer(n_paths, f"{name}: n_paths", 1, most + 1)
    number = arrays.check_integer(seed, f"{name}: seed", 0, 2**64)
    first = arrays.check_integer(first_path, f"{name}: first_path", 0, 2**64)
    if first + n > 2**64:
        raise ValueError(f"{name}: first_path + n_paths must be at most 2**64, but is {first + n}")
    if not isinstance(antithetic, (bool, np.bool_)):
        raise TypeError(f"{name}: antithetic must be True or False, but is {antithetic!r}")
    return Stream(number, first, n, bool(antithetic), path_dtype(name, dtype, times))


def path_dtype(name: str, dtype: Any, times: Any) -> str:
    """'float32' or 'float64': `dtype`, or that of `times`, or float32 where those are integers."""
    if dtype is None:
        kind = arrays.dtype_name(times)
        return kind if kind in arrays.FLOATS else "float32"
    text = str(dtype)
    try:
        kind = np.dtype(text.removeprefix("torch.") if text.startswith("torch.") else dtype).name
    except (TypeError, ValueError):
        kind = text
    if kind not in arrays.FLOATS:
        raise TypeError(f"{name}: dtype must be float32 or float64, but is {dtype}")
    return kind


def check_times(name: str, times: Any) -> str:
    """Whose array `times` is, as `arrays.kind` has it; raise unless it has the form of a time grid."""
    kind = arrays.kind(times, f"{name}: times")
    if getattr(times, "requires_grad", False):
        raise TypeError(f"{name}: times requires grad, but paths carry no gradient in it: pass times.detach()")
    if kind == "torch" and not torch.compiler.is_compiling() and has_tangent(times):  # in compiled code the op sees it
        raise TypeError(f"{name}: times has a tangent, but paths carry no derivative in it: pass times.detach()")
    dtype = arrays.dtype_name(times)
    if dtype not in arrays.FLOATS and not dtype.startswith(("int", "uint")):
        raise TypeError(f"{name}: times has dtype {dtype}, but must be float32, float64 or an integer type")
    if times.ndim != 1 or times.shape[0] == 0:
        raise ValueError(f"{name}: times must be 1-D with at least one time, but has shape {tuple(times.shape)}")
    return kind


def time_grid(name: str, times: Any) -> np.ndarray:
    """`times` as float64 on the CPU, checked."""
    times = arrays.host_array(times, f"{name}: times")
    grid: np.ndarray = np.asarray(times).astype(np.float64)
    for j in np.flatnonzero(~np.isfinite(grid))[:1]:
        raise ValueError(f"{name}: times must be finite, but times[{j}] = {grid[j]}")
    if grid[0] < 0:
        raise ValueError(f"{name}: times must be at least 0, but times[0] = {grid[0]}")
    for j in np.flatnonzero(np.diff(grid) <= 0)[:1] + 1:
        raise ValueError(
            f"{name}: times must be strictly increasing, but times[{j}] = {grid[j]} comes after "
            f"times[{j - 1}] = {grid[j - 1]}: sort a batch of times first"
        )
    return grid
