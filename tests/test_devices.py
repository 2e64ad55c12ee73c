"""What stands between an array on a GPU and its launch: shapes known ahead, devices that differ, what is missing."""

import ast
import contextlib
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import fastlam
from fastlam import devices, gpu, info, on_torch
from fastlam.kernels import cuda_launch

CPU_ALONE = pytest.mark.skipif(torch.cuda.is_available(), reason="waits for a machine without a GPU")


@pytest.fixture
def fake():
    """Tensors without memory, which may say that they are on any device."""
    with FakeTensorMode() as mode:
        yield mode


def described(answer):
    return tuple(answer.shape), answer.dtype, answer.device.type


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_of_rows_on_a_gpu(fake, dtype):
    """Of the values and of the gradients' ops: autograd itself wants a torch with CUDA."""
    x = torch.empty(3, 4, 5, dtype=dtype, device="cuda")
    index = torch.empty(7, dtype=torch.int64, device="cuda")
    lam = torch.empty((), device="cuda")
    assert described(fastlam.mean_square(x, lam, index=index)) == ((7, 4), dtype, "cuda")
    assert described(fastlam.mean_square(x, torch.tensor(0.25))) == ((3, 4), dtype, "cuda")
    values = fastlam.mean_square_value_and_grad(x, 2.0)
    assert [described(value) for value in values] == [((3, 4), dtype, "cuda")] * 2
    weight = torch.empty(7, 4, dtype=dtype, device="cuda")
    assert described(torch.ops.fastlam.mean_square_backward(x, weight, index)) == ((3, 4, 5), dtype, "cuda")
    call, theta = fastlam.Functional("max(x - k, 0)", {"k": 1.0}), torch.empty(1, dtype=torch.float64, device="cuda")
    table = torch.ops.fastlam.mean(x, theta, index, call.handle, [0])
    assert described(table) == ((2, 7, 4), torch.float64, "cuda")
    slopes = torch.ops.fastlam.mean_slopes(x, theta, weight, index, call.handle)
    assert described(slopes) == ((3, 4, 5), dtype, "cuda")


def test_shapes_of_one_pass_on_a_gpu(fake):
    times = torch.empty(6, device="cuda")
    theta = torch.empty(3, dtype=torch.float64, device="cuda")
    handles = fastlam.Brownian.handle, fastlam.Square.handle
    table = torch.ops.fastlam.simulate_mean(theta, times, *handles, [0, 2], 9, [1, 0, 0, 0], False, "float32", True)
    assert described(table) == ((4, 6), torch.float64, "cuda")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda there: fastlam.mean_square(there, index=torch.tensor([0])), "mean_square: x is on cuda:0, but index"),
        (lambda there: fastlam.mean_square(there, torch.ones(3)), "mean_square: x is on cuda:0, but lam is on cpu"),
        (lambda there: fastlam.mean_square(torch.ones(3, 4), there), "x is on cpu, but lam is on cuda:0"),
        (
            lambda there: fastlam.simulate_mean_square(
                fastlam.Brownian(torch.empty(1, device="cuda")), torch.ones(1), 5, seed=1
            ),
            "times is on cpu, but mu is on cuda:0",
        ),
        (
            lambda there: fastlam.simulate(
                fastlam.Brownian(), torch.empty(4, device="cuda"), 5, seed=1, out=torch.empty(4, 5)
            ),
            "simulate: times is on cuda:0, but out is on cpu",
        ),
        (
            lambda there: fastlam.simulate(fastlam.Brownian(), torch.ones(3), 4, seed=1, out=there),
            "simulate: times is on cpu, but out is on cuda:0",
        ),
    ],
)
def test_devices_that_differ(fake, call, words):
    with pytest.raises(ValueError, match=words):
        call(torch.empty(3, 4, device="cuda"))


@pytest.mark.parametrize("device", ["tpu", "mps", "meta", 3.5, "cuda:x"])
def test_no_such_device(device):
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match="fit: device must be cpu, cuda or cuda:0"):
        fastlam.fit(x, x[:, 0], device=device)


def test_other_devices_are_refused(fake):
    with pytest.raises(TypeError, match=r"x is on xpu:0, but must be on the CPU or on an NVIDIA GPU: pass x\.cpu"):
        fastlam.mean_square(torch.empty(3, 4, device="xpu"))


@CPU_ALONE
def test_no_gpu(fastlam_):
    x = torch.ones(2, 3)
    words = r"fit: device is cuda, but missing: a working NVIDIA driver"
    if torch.version.cuda is None:
        words += r" .*; a torch for CUDA .* is for the CPU: https"
    with pytest.raises(OSError, match=words):
        fastlam.fit(x, x[:, 0], device="cuda")
    for command in (("fit",), ("simulate", "--out", "x.npy"), ("calibrate", "--targets", "k.npy")):
        code, _, stderr = fastlam_(*command, "--device", "cuda")
        assert code == 1
        assert f"fastlam {command[0]}: error: --device is cuda, but missing: a working NVIDIA driver" in stderr


@pytest.fixture
def not_yet_imported():
    devices._imported.cache_clear()
    yield
    devices._imported.cache_clear()


def test_what_is_missing_is_named(monkeypatch, not_yet_imported):
    def missing(name):
        raise ModuleNotFoundError("No module named 'cuda.bindings'")

    monkeypatch.setattr(devices.importlib, "import_module", missing)
    monkeypatch.setattr(info, "missing_for_cuda", lambda: ['the package cuda-bindings (pip install "fastlam[cuda13]")'])
    words = r'mean: x is on a GPU, but missing: the package cuda-bindings \(pip install "fastlam\[cuda13\]"\)'
    with pytest.raises(ImportError, match=words):
        devices.gpu_part("gpu", "mean: x")


def test_gpus_of_others(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.0")
    with pytest.raises(TypeError, match="mean: x is on a GPU of AMD"):
        devices.gpu_part("gpu_rows", "mean: x")


def test_a_launch(monkeypatch):
    """On the GPU and stream of the array, whatever GPU is the active one; arrays go as addresses, numbers as such."""
    asked, entered = [], []

    @contextlib.contextmanager
    def activated(number):
        entered.append(number)
        yield

    x, word = torch.empty(8), cuda_launch.word(7)
    case = gpu.Case(print, ("made of",), 32)
    monkeypatch.setattr(cuda_launch, "launch", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(on_torch, "device", lambda x: 1)
    monkeypatch.setattr(on_torch, "stream", lambda number: 10 + number)
    monkeypatch.setattr(on_torch, "activated", activated)
    for active in (1, 0):
        monkeypatch.setattr(on_torch, "active", lambda active=active: active)
        gpu.launch(case, (2, 3), 5, 0.5, word, x, x[2:])
    want = print, ("made of",), 1, 11, (2, 3), 32, 5, 0.5, word, x.data_ptr(), x.data_ptr() + 8
    assert asked == [want] * 2
    assert entered == [1]


def test_frameworks_have_the_same_names():
    """CuPy, which is not here, as its file is read."""

    def names(file):
        for line in ast.parse(Path(file).read_text()).body:
            if isinstance(line, ast.FunctionDef):
                yield line.name
            elif isinstance(line, ast.Assign):
                yield line.targets[0].id

    on_cupy = [name for name in names(Path(on_torch.__file__).with_name("on_cupy.py")) if name != "beside"]
    assert list(names(on_torch.__file__)) == on_cupy
