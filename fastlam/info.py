"""What this machine and installation are, for `fastlam info` and for a report of a fault."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path

import torch

from fastlam import arrays, threads

VERSIONS = ("fastlam", "numpy", "numba", "llvmlite")
CUDA_PACKAGES = {  # what fastlam[cuda12], fastlam[cuda13] bring
    "numba-cuda": "numba_cuda",
    "cuda-core": "cuda.core",
    "cuda-bindings": "cuda.bindings.nvjitlink",
}
TOOLKIT = ("nvvm", "nvrtc", "nvJitLink")


def facts() -> list[tuple[str, str]]:
    """Return (name, value) pairs: versions, processor, threads, memory, CUDA.

    Nothing is required to be present: what is missing is said so, with the `pip install` that brings it.

    Examples
    --------
    >>> [name for name, _ in facts()][:3]
    ['python', 'fastlam', 'numpy']
    """
    versions = [(name, _version(name) or "missing") for name in VERSIONS]
    python = f"{platform.python_version()} ({platform.python_implementation()}) on {platform.platform()}"
    cores = f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}"
    return [
        ("python", python),
        *versions,
        ("torch", torch.__version__),  # which tells of what CUDA it is built for, as its package may not
        ("processor", _processor()),
        ("vectors", _vectors()),
        ("cores", cores),
        ("threads", str(threads.thread_count())),
        ("memory", f"{arrays.available_memory() / 1e9:,.1f} GB available"),
        *_cuda(),
    ]


def missing_for_cuda() -> list[str]:
    """What a GPU needs and is not here, each with what brings it."""
    version, _, fault = _driver()
    return _missing(_parts(), _extra(version), fault)


def _parts() -> dict[str, str | None]:
    """Packages and libraries that a GPU needs: the version, or the file, of those that are here."""
    packages = {f"package {name}": _package(name) for name in CUDA_PACKAGES}
    return packages | {f"library {name}": _toolkit_library(name) for name in TOOLKIT}


def _missing(parts: dict[str, str | None], extra: str, fault: str) -> list[str]:
    missing = [f"a working NVIDIA driver ({fault})"] if fault else []
    if torch.version.cuda is None:
        missing.append(f"a torch for CUDA ({torch.__version__} is for the CPU: https://pytorch.org/get-started)")
    return missing + [f"the {name} ({extra})" for name, found in parts.items() if not found]


def _extra(version: int) -> str:
    return f'pip install "fastlam[{"cuda12" if version and version < 13000 else "cuda13"}]"'


def _package(name: str) -> str | None:
    return _version(name) if _findable(CUDA_PACKAGES[name]) else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Name by /proc/cpuinfo, which Arm kernels leave out."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return f"{next(filter(None, names), None) or platform.processor() or 'unknown'} ({platform.machine()})"


def _vectors() -> str:
    """Width of the processor's vectors and whether it has fused multiply-adds, by LLVM's names for its features."""
    try:
        from llvmlite import binding

        features = {name for name, has in binding.get_host_cpu_features().items() if has}
    except (ImportError, RuntimeError) as error:
        return f"unknown: {error}"
    widths = {"avx512f": 512, "avx": 256, "neon": 128, "asimd": 128, "fp-armv8": 128, "sse2": 128}
    best = next((name for name in widths if name in features), None)
    if best is None:
        return "none known to LLVM"
    arm = best in ("neon", "asimd", "fp-armv8")
    fused = "with" if arm or features & {"fma", "avx512f"} else "without"
    return f"{widths[best]} bits ({'avx2' if 'avx2' in features and best == 'avx' else best}), {fused} fma"


def _cuda() -> list[tuple[str, str]]:
    version, devices, fault = _driver()
    extra, parts = _extra(version), _parts()
    missing = _missing(parts, extra, fault)
    rows = [(name.split()[-1], found or f"missing: {extra}") for name, found in parts.items()]
    rows.append(("cupy", _cupy() or f"missing, needed only for CuPy arrays: {extra}"))
    rows.append(("numba.cuda", _numba_cuda()))
    rows.append(("torch's CUDA", torch.version.cuda or "none: this torch is built for the CPU"))
    served = f"serves CUDA {version // 1000}.{version % 1000 // 10}"
    rows.append(("CUDA driver", f"not usable: {fault}" if fault else served))
    rows += [(f"CUDA device {i}", device) for i, device in enumerate(devices)]
    return [*rows, ("CUDA", "missing: " + "; ".join(missing) if missing else "complete")]


def _findable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package is missing
        return False


def _cupy() -> str | None:
    """Version of CuPy, whose package is named after its toolkit."""
    names = (_version(f"cupy{tail}") for tail in ("-cuda13x", "-cuda12x", ""))
    return next(filter(None, names), None) if _findable("cupy") else None


def _toolkit_library(name: str) -> str | None:
    """Where a library of the CUDA toolkit would be loaded from."""
    try:
        pathfinder = importlib.import_module("cuda.pathfinder")
        return str(pathfinder.load_nvidia_dynamic_lib(name).abs_path)
    except Exception:  # cuda-pathfinder missing, or one of its several errors: the library cannot be had
        return None


def _numba_cuda() -> str:
    """Where `numba.cuda` comes from: numba-cuda redirects the import of what numba itself once had."""
    try:
        return str(importlib.import_module("numba.cuda").__file__)
    except Exception as error:  # whatever a broken installation raises, the other facts are still wanted
        return f"not importable: {' '.join(str(error).split())}"


def _driver() -> tuple[int, list[str], str]:
    """Version of CUDA that the driver serves, its devices, and what is wrong with it ("" if nothing)."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0, [], "libcuda.so.1 is not installed"
    version, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    status = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count))
    if status:
        text = ctypes.c_char_p()
        library.cuGetErrorName(status, ctypes.byref(text))
        return version.value, [], f"it answers {(text.value or b'').decode() or status}"
    devices = [_device(library, i) for i in range(count.value)]
    return version.value, devices, "" if devices else "it sees no device"


def _device(library: ctypes.CDLL, i: int) -> str:
    """Name, compute capability and memory, by the driver's own interface, so that no package is needed."""
    device, major, minor, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    library.cuDeviceGet(ctypes.byref(device), i)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    library.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)  # and _MINOR
    library.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    return f"{name.value.decode(errors='replace')}, sm_{major.value}{minor.value}, {size.value / 1e9:,.1f} GB"
