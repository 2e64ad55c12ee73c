"""`fastlam info`: what is there, and what is missing."""

import ctypes
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fastlam import info


def test_info(fastlam_):
    code, stdout, stderr = fastlam_("info")
    assert (code, stderr) == (0, "")
    shown = dict(
        re.split(r"\s+", line, maxsplit=1) for line in stdout.splitlines() if not line.startswith(("CUDA ", "torch's"))
    )
    assert shown["numpy"] == np.__version__
    assert shown["torch"] == torch.__version__
    assert shown["threads"] == str(torch.get_num_threads())
    assert re.match(r"(128|256|512) bits \(\w+\), (with|without) fma|none known|unknown", shown["vectors"])
    assert re.match(r"[\d,]+\.\d GB available", shown["memory"])
    assert {"python", "processor", "cores", "numba-cuda", "cuda-core", "cupy", "numba.cuda"} <= set(shown)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512f", "avx2", "avx", "sse2", "fma"}, "512 bits (avx512f), with fma"),
        ({"avx2", "avx", "sse2", "fma"}, "256 bits (avx2), with fma"),
        ({"avx", "sse2"}, "256 bits (avx), without fma"),
        ({"sse2"}, "128 bits (sse2), without fma"),
        ({"neon", "fp-armv8"}, "128 bits (neon), with fma"),
        (set(), "none known to LLVM"),
    ],
)
def test_info_vectors(monkeypatch, features, expected):
    from llvmlite import binding

    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: dict.fromkeys(features, True) | {"sve": False})
    assert info._vectors() == expected


def test_info_processor_without_cpuinfo(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda _: "processor\t: 0\n")
    assert info._processor().endswith(")")
    monkeypatch.setattr(Path, "read_text", lambda _: "model name\t: Some Processor\n" * 2)
    assert info._processor().startswith("Some Processor (")


class FakeDriver:
    """libcuda with two devices, or with none, or broken."""

    def __init__(self, version: int, devices: int, status: int = 0) -> None:
        self.version, self.devices, self.status = version, devices, status

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version

    def cuInit(self, flags):
        return self.status

    def cuDeviceGetCount(self, count):
        count._obj.value = self.devices
        return 0

    def cuGetErrorName(self, status, text):
        text._obj.value = b"CUDA_ERROR_UNKNOWN"

    def cuDeviceGet(self, device, i):
        device._obj.value = i

    def cuDeviceGetName(self, name, size, device):
        name.value = b"NVIDIA Something %d" % device.value

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = {75: 9, 76: 0}[attribute]

    def cuDeviceTotalMem_v2(self, size, device):
        size._obj.value = 80 * 10**9


@pytest.fixture
def cuda(monkeypatch):
    """The facts about CUDA with a given driver (None: no driver), packages present or missing."""

    def facts(driver: FakeDriver | None, present: bool = True) -> dict[str, str]:
        def load(name: str) -> FakeDriver:
            if driver is None:
                raise OSError(f"{name}: cannot open shared object file")
            return driver

        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setattr(info, "_findable", lambda _: present)
        monkeypatch.setattr(info, "_version", lambda _: "1.2.3" if present else None)
        monkeypatch.setattr(info, "_toolkit_library", lambda name: f"/lib/{name}.so" if present else None)
        return dict(info._cuda())

    return facts


def test_info_with_all_of_cuda(cuda, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    shown = cuda(FakeDriver(13010, 2))
    assert shown["CUDA"] == "complete"
    assert shown["CUDA driver"] == "serves CUDA 13.1"
    assert shown["CUDA device 0"] == "NVIDIA Something 0, sm_90, 80.0 GB"
    assert shown["CUDA device 1"] == "NVIDIA Something 1, sm_90, 80.0 GB"
    assert shown["nvvm"] == "/lib/nvvm.so"


@pytest.mark.parametrize(
    ("driver", "present", "missing"),
    [
        (None, True, ["a working NVIDIA driver (libcuda.so.1 is not installed)"]),
        (FakeDriver(13000, 0), True, ["a working NVIDIA driver (it sees no device)"]),
        (FakeDriver(13000, 1, 999), True, ["a working NVIDIA driver (it answers CUDA_ERROR_UNKNOWN)"]),
        (
            FakeDriver(12080, 1),
            False,
            ['the package numba-cuda (pip install "fastlam[cuda12]")', "the package cuda-core"],
        ),
        (FakeDriver(13000, 1), False, ['the library nvvm (pip install "fastlam[cuda13]")']),
        (None, False, ["libcuda.so.1", 'cuda-core (pip install "fastlam[cuda13]")', "the library nvJitLink"]),
    ],
)
def test_info_says_what_of_cuda_is_missing(cuda, driver, present, missing):
    shown = cuda(driver, present)
    assert shown["CUDA"].startswith("missing: ")
    assert all(part in shown["CUDA"] for part in missing)


@pytest.mark.skipif(torch.version.cuda is not None, reason="waits for a torch for the CPU")
def test_info_says_that_torch_is_for_the_cpu(cuda):
    assert f"a torch for CUDA ({torch.__version__} is for the CPU: https" in cuda(FakeDriver(13010, 2))["CUDA"]


def test_info_survives_a_broken_numba_cuda(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    assert info._numba_cuda().startswith("not importable: ")
    assert not info._findable("no_such_package.module")
