"""What computes on a GPU: imported where it is needed, with what it misses said."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np
import torch


def gpu_part(part: str, name: str) -> Any:
    """The module `fastlam.<part>`, which launches for arrays on a GPU, as `name` (function and argument) is.

    ImportError, with the packages that are missing and what brings them; TypeError for a GPU that is not NVIDIA's.
    """
    if torch.version.hip is not None:
        raise TypeError(f"{name} is on a GPU of AMD, but fastlam's kernels are for those of NVIDIA: pass its .cpu()")
    try:
        return _imported(part)
    except ImportError as error:
        raise ImportError(f"{name} is on a GPU, but {_missing()} ({error})") from error


@cache
def _imported(part: str) -> Any:
    """The import, without what Python spends on finding that it was done."""
    return importlib.import_module(f"fastlam.{part}")


def check_device(name: str, device: Any) -> str | None:
    """None for the CPU, else the name of a GPU that is there: "cuda:0".

    TypeError or ValueError for other devices; OSError, with what is missing, where there is no GPU.
    """
    if device is None:
        return None
    try:
        asked = torch.device(device)
    except (RuntimeError, TypeError):
        asked = None
    if asked is None or asked.type not in ("cpu", "cuda"):
        raise ValueError(f"{name} must be cpu, cuda or cuda:0, cuda:1, ..., but is {device!r}")
    if asked.type == "cpu":
        return None
    count = torch.cuda.device_count()
    if not count:
        raise OSError(f"{name} is {device}, but {_missing()}")
    number = torch.cuda.current_device() if asked.index is None else asked.index
    if number >= count:
        raise ValueError(f"{name} is {device}, but there is no such GPU: cuda:0 to cuda:{count - 1} are there")
    gpu_part("gpu", name)
    return f"cuda:{number}"


def beside(array: np.ndarray, device: str | None) -> Any:
    """An array as a tensor on a GPU, itself for the CPU."""
    return array if device is None else torch.from_numpy(array).to(device)


def _missing() -> str:
    """What a GPU needs that is not here."""
    from fastlam import info  # now: only for this message

    needs = info.missing_for_cuda()
    return "missing: " + "; ".join(needs) if needs else "CUDA does not work"
