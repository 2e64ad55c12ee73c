"""What is on this machine, and what is missing of what `make gpu` needs, with what that costs.

`python -m bench.card.pieces` prints both as JSON: `make gpu` asks it in a process of its own, because where libraries
are looked for is settled once in each.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import sys
from typing import Any, NamedTuple

EXTRA = "pip install '.[cuda13]' (or '.[cuda12]') in the clone"
TORCH = "install one for the driver's CUDA: https://pytorch.org/get-started"
POINT = "set CUDA_HOME to a CUDA toolkit that has nvvm/, 12.3 or newer, or pip install nvidia-nvvm"


class Missing(NamedTuple):
    """A piece that is not there, what it costs, and what brings it; nothing runs without one that is `needed`."""

    piece: str
    costs: str
    remedy: str
    needed: bool


NEEDED = {  # package: module
    "numpy": "numpy",
    "numba": "numba",
    "torch": "torch",
    "sympy": "sympy",
    "pytest": "pytest",
    "numba-cuda": "numba_cuda",
    "cuda-core": "cuda.core",
    "cuda-bindings": "cuda.bindings",
}
OPTIONAL = {  # package: module, what it costs, what brings it
    "cupy": ("cupy", "its baselines are left out, and tests that need it are skipped, which fails", EXTRA),
    "triton": ("triton", "the baselines by torch.compile are left out", "pip install triton"),
    "pytest-benchmark": ("pytest_benchmark", "tests run without it", "pip install pytest-benchmark"),
    "pytest-timeout": (
        "pytest_timeout",
        "a test that hangs takes the time of the others",
        "pip install pytest-timeout",
    ),
}
OLDEST = (3, 11)  # Python
VERSIONS = ("cuda-bindings", "cuda-pathfinder", "triton", "sympy", "pytest", "pytest-benchmark", "pytest-timeout")


def look() -> tuple[list[tuple[str, str]], list[Missing]]:
    """(facts as name and value, what is missing)."""
    missing = [*_python(), *_needed(), *_optional()]
    facts = [(name, _version(name)) for name in (*NEEDED, *VERSIONS)]
    if any(piece.needed for piece in missing):
        return [("python", platform.python_version()), *dict(facts).items()], missing
    try:
        from fastlam import info

        told = dict(info.facts())
        facts = list((told | dict(facts) | told).items())  # torch's package may not say for what CUDA it is built
    except ImportError as error:
        needs = f"fastlam needs {error.name}" if error.name else f"fastlam does not import: {error}"
        return facts, [*missing, Missing(needs, "nothing runs", "pip install what README names", True)]
    return facts, [*missing, *_card(dict(facts)), *_compiles()]


def _python() -> list[Missing]:
    if sys.version_info >= OLDEST:
        return []
    version = ".".join(map(str, OLDEST))
    return [Missing(f"Python {version}", "nothing runs", "make gpu PYTHON=...: the path of a newer one", True)]


def _needed() -> list[Missing]:
    return [
        Missing(name, "nothing runs", _remedy(name), True) for name, module in NEEDED.items() if not findable(module)
    ]


def _remedy(package: str) -> str:
    return EXTRA if "cuda" in package else TORCH if package == "torch" else f"pip install {package}"


def _optional() -> list[Missing]:
    found = OPTIONAL.items()
    return [Missing(name, costs, remedy, False) for name, (module, costs, remedy) in found if not findable(module)]


def _card(facts: dict[str, str]) -> list[Missing]:
    import torch

    missing = []
    driver = facts.get("CUDA driver", "nothing is known of a driver")
    if torch.version.cuda is None:
        missing.append(Missing("a torch for CUDA (this one is built for the CPU)", "nothing runs", TORCH, True))
    if not torch.cuda.is_available() and (not missing or driver.startswith("not usable")):
        remedy = (
            f"a card that CUDA_VISIBLE_DEVICES does not hide, and a driver for torch's CUDA (CUDA driver: {driver})"
        )
        missing.append(Missing("an NVIDIA GPU that torch sees", "nothing runs", remedy, True))
    return missing


def _compiles() -> list[Missing]:
    """The proof that numba-cuda, NVVM and nvJitLink are there and go together: a kernel."""
    try:
        import torch

        from bench.card import words
        from fastlam.kernels import cuda_launch

        capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else (9, 0)
        cuda_launch.cubin(words.make_words, (), words.THREADS, capability)
    except Exception as error:  # whatever a broken toolkit raises: it is told, not understood
        why = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        remedy = EXTRA if library("nvvm") else f"NVVM is not found: {POINT}"
        return [Missing(f"a compiler of kernels ({why})", "nothing runs", remedy, True)]
    return []


def library(name: str) -> str:
    """Where a library of the CUDA toolkit is loaded from, "" where it is not found."""
    try:
        from cuda import pathfinder

        return str(pathfinder.load_nvidia_dynamic_lib(name).abs_path)
    except Exception:  # pathfinder is missing, or one of its several errors
        return ""


def findable(module: str) -> bool:
    """Is the module installed?

    >>> findable("json.decoder"), findable("no_such_module.at_all")
    (True, False)
    """
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package is missing
        return False


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def line(missing: Missing) -> str:
    """What to print of it.

    >>> line(Missing("cupy", "its baselines are left out", "pip install cupy", False))
    'missing: cupy: its baselines are left out. Remedy: pip install cupy'
    """
    return f"missing: {missing.piece}: {missing.costs}. Remedy: {missing.remedy}"


def description() -> dict[str, Any]:
    """What was found, for JSON."""
    facts, missing = look()
    return {"facts": facts, "missing": [piece._asdict() for piece in missing], "nvvm": library("nvvm"), **_device()}


def _device() -> dict[str, Any]:
    """Name of the current card, "" where there is none."""
    try:
        import torch

        return {"card": torch.cuda.get_device_name() if torch.cuda.is_available() else ""}
    except ImportError:
        return {"card": ""}


if __name__ == "__main__":
    print(json.dumps(description()))
