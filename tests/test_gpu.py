"""On a card: public functions give the bits that they give on the CPU."""

import numpy as np
import pytest
import torch
from cuda_cases import FUNCTIONALS, PROCESSES
from gpu_cases import DTYPES, FIRST, SEED, TIMES, cuda, require_a_gpu, same
from test_readme import ON_A_GPU
from torch_cases import TRANSFORMS, fused
from torch_cases import same as nearly

import fastlam

require_a_gpu()

pytestmark = pytest.mark.gpu
SIZES = [1, 2, 255, 257, 1024, 100_003]
ONE_PASS = [  # a kernel each, which the CPU takes seconds to compile
    *((process, "square", False) for process in PROCESSES),
    *(("brownian", "square", True), ("cox_ingersoll_ross", "call", True), ("ornstein_uhlenbeck", "polynomial", False)),
]
LIBRARY = "exp(0.3 * sin(x)) + k * log(1 + x**2)"  # of functions that are not ours


@DTYPES
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(
    ("process", "antithetic"), [*((name, False) for name in PROCESSES), ("brownian", True), ("milstein", True)]
)
def test_simulate(process, antithetic, n, dtype):
    named = {"seed": SEED, "first_path": FIRST, "antithetic": antithetic, "dtype": dtype}
    got = fastlam.simulate(PROCESSES[process], cuda(TIMES), n, **named)
    same(got, fastlam.simulate(PROCESSES[process], TIMES, n, **named))


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 8, 11, 1000])
@pytest.mark.parametrize("first", [0, 2**32 - 5, 2**64 - 300])
def test_simulate_times_and_paths(m, first):
    times, process = np.arange(1, m + 1), fastlam.Brownian(0.1, 0.2, 1.0)
    got = fastlam.simulate(process, cuda(times), 300, seed=1, first_path=first)
    same(got, fastlam.simulate(process, times, 300, seed=1, first_path=first))


@DTYPES
def test_simulate_into_a_view(dtype):
    out = torch.full((8, 1100), torch.nan, dtype=getattr(torch, dtype), device="cuda")
    before = out._version
    fastlam.simulate(PROCESSES["brownian"], cuda(TIMES), 1031, seed=SEED, dtype=dtype, out=out[1:, 3:1034])
    same(out[1:, 3:1034].contiguous(), fastlam.simulate(PROCESSES["brownian"], TIMES, 1031, seed=SEED, dtype=dtype))
    assert out._version > before
    out[1:, 3:1034] = torch.nan
    assert out.isnan().all()  # nothing else was written


def test_more_than_2_31_elements():
    """Stored, reduced, and in one pass: 3 x 2**30, 13 GB."""
    if torch.cuda.mem_get_info()[0] < 20 * 2**30:
        pytest.fail("needs 20 GB of the GPU's memory")
    n, times, process = 2**30, TIMES[:3], PROCESSES["brownian"]
    x = fastlam.simulate(process, cuda(times), n, seed=SEED, dtype="float32")
    for first in (0, 2**29 - 100, n - 1000):
        want = fastlam.simulate(process, times, 1000, seed=SEED, dtype="float32", first_path=first)
        same(x[:, first : first + 1000].contiguous(), want)
    k = fastlam.simulate_mean_square(process, cuda(times), n, seed=SEED, dtype="float32")
    same(fastlam.mean_square(x), k.cpu())
    same(k, fastlam.simulate_mean_square(process, times, n, seed=SEED, dtype="float32"))
    flat = x.view(-1)[: 2**31 + 4096]  # one row
    same(fastlam.mean_square(flat), fastlam.mean_square(flat.cpu()))


@DTYPES
@pytest.mark.parametrize("n", [2, 1022, 100_002])
@pytest.mark.parametrize(("process", "functional", "antithetic"), ONE_PASS)
def test_simulate_mean(process, functional, antithetic, n, dtype):
    """Means, derivatives in every parameter at each time, standard errors."""
    elements = PROCESSES[process], FUNCTIONALS[functional]
    values = [float(value) for element in elements[::-1] for value in element.parameters().values()]
    stream = [number for whole in (SEED, FIRST) for number in (whole % 2**32, whole >> 32)]
    numbers = list(range(len(values))), n, stream, antithetic, dtype, True
    want, got = (
        torch.ops.fastlam.simulate_mean(
            torch.tensor(values, dtype=torch.float64, device=device), torch.tensor(TIMES, device=device),
            *(element.handle for element in elements), *numbers,
        )
        for device in ("cpu", "cuda")
    )  # fmt: skip
    same(got, want)


def test_simulate_mean_in_several_slabs(monkeypatch):
    from fastlam import gpu_paths

    n, process, told = 5_000_000, PROCESSES["geometric_brownian"], []
    want = fastlam.simulate_mean_square(process, TIMES, n, seed=SEED, return_stderr=True)
    monkeypatch.setattr(gpu_paths, "SLAB_TILES", 256)
    named = {"seed": SEED, "return_stderr": True, "progress": lambda *done: told.append(done)}
    for a, b in zip(fastlam.simulate_mean_square(process, cuda(TIMES), n, **named), want, strict=True):
        same(a, b)
    assert told == [(min(n, 2**18 * (i + 1)), n) for i in range(20)]


def test_elements_with_functions_of_a_library():
    """Their last places differ between libraries: means of 2**17 terms of order 1 to 1e-12."""
    process = fastlam.Diffusion("0.1 * sin(x)", "0.2", {"x0": 1.0})
    functional = fastlam.Functional(LIBRARY, {"k": 0.5})
    want, got = (fastlam.simulate_mean(functional, process, times, 2**17, seed=1) for times in (TIMES, cuda(TIMES)))
    np.testing.assert_allclose(got.cpu().numpy(), want, rtol=1e-12)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_gradients_in_parameters(device):
    """Those of the CPU to the last bit, at one time, where a gradient adds nothing up; a scalar may be on the CPU."""

    def gradients(times, device):
        learned = [torch.tensor(value, device=device, requires_grad=True) for value in (0.25, 0.1, 0.3, 1.0)]
        lam, *others = learned
        fastlam.simulate_mean_square(fastlam.Brownian(*others), times, 5000, lam, seed=1).sum().backward()
        return [tensor.grad for tensor in learned]

    want = gradients(torch.tensor([0.5]), "cpu")
    for a, b in zip(gradients(cuda([0.5], "float32"), device), want, strict=True):
        assert a.device.type == device
        same(a.cuda(), b)


VIEWS = (  # of rows where they are: whole, from an odd place on, apart, of another order, repeated, across
    lambda x: x,
    lambda x: x[..., 1:] if x.shape[-1] > 1 else x,
    lambda x: x[..., : x.shape[-1] // 2 + 1],
    lambda x: x[1:, ..., 3::2] if x.shape[-1] > 3 else x,
    lambda x: x[:1].expand(4, *x.shape[1:]),
    lambda x: x.mT,
)


@DTYPES
@pytest.mark.parametrize("shape", [(3, 1), (3, 1025), (2, 3, 70_001), (5, 2_000_003)])
def test_rows(shape, dtype):
    """Aligned rows and others, all and picked: means, gradients in x, of a functional too."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=getattr(torch, dtype))
    polynomial, index = FUNCTIONALS["polynomial"], torch.tensor([1, 0, 1, -1])
    for view in VIEWS:
        for picked in (None, index):
            want, got = (
                _rows(polynomial, view(x.to(device)), None if picked is None else picked.to(device))
                for device in ("cpu", "cuda")
            )
            for a, b in zip(got, want, strict=True):
                same(a, b)


def _rows(functional, x, index):
    x = x.detach().requires_grad_()
    answers = fastlam.mean_square(x, 0.25, index=index), fastlam.mean(functional, x, index=index)
    weight = torch.linspace(-1, 1, answers[0].numel()).reshape(answers[0].shape).to(x)
    return *answers, *(torch.autograd.grad(answer, x, weight)[0] for answer in answers)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name):
    """Of torch.func: in plain torch on the CPU, and in ours on the card."""

    def ours(x, lam, index=None):
        return fused(x.cuda(), lam.cuda(), None if index is None else index.cuda()).cpu()

    nearly(TRANSFORMS[name](ours), TRANSFORMS[name](lambda x, lam, index=None: fused(x, lam, index)))


def test_training():
    """README's loop, on the card: Adam finds lam."""
    x = fastlam.simulate(fastlam.Brownian(0.05, 0.2), cuda(np.arange(1, 257) / 64, "float32"), 20_000, seed=7)
    k = fastlam.mean_square(x, 0.25)
    model = fastlam.LambdaModel().cuda()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = torch.Generator("cuda").manual_seed(1)
    for _ in range(20):
        for j in torch.randperm(len(k), generator=generator, device="cuda").split(32):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x, index=j), k[j]).backward()
            optimizer.step()
    assert abs(model.lam.item() - 0.25) < 1e-3  # the rate leaves Adam no nearer


def test_fit_calibrate_and_commands(fastlam_):
    x = fastlam.simulate(PROCESSES["brownian"], TIMES, 5000, seed=1)
    k = fastlam.mean_square(x, 0.25)
    want = fastlam.fit(x, k)
    for found in (fastlam.fit(cuda(x), cuda(k)), fastlam.fit(x, k, device="cuda")):
        assert (found.lam, found.means.tolist()) == (want.lam, want.means.tolist())
    start = fastlam.Brownian(0.1, 0.5, 1.0)
    want = fastlam.calibrate(start, TIMES, 4 * k)
    for found in (
        fastlam.calibrate(start, cuda(TIMES), cuda(4 * k)), fastlam.calibrate(start, TIMES, 4 * k, device="cuda:0")
    ):  # fmt: skip
        assert found.estimates == want.estimates
    small = "--n-paths", "3000", "--n-times", "30", "--device", "cuda"
    for command in (("fit",), ("fit", "--one-pass"), ("simulate", "--out", "x.npy"), ("simulate", "--out", "x.npz")):
        code, _, stderr = fastlam_(*command, *small)
        assert code == 0, stderr


def test_readme():
    names = {}
    exec(compile(ON_A_GPU[0], "README.md", "exec", dont_inherit=True), names)
    assert names["sigma"].grad.isfinite()
    assert names["k"].is_cuda
    assert abs(names["result"].lam - 0.25) < 1e-6


def test_bad_input():
    """What only the card knows gives NaN; what the CPU knows raises."""
    x = torch.ones(2, 5, device="cuda")
    got = fastlam.mean_square(x, index=cuda([0, 2, -3, -1]))
    assert got.isnan().tolist() == [False, True, True, False]
    with pytest.raises(IndexError, match="index holds 2, but x has 2 rows"):
        fastlam.mean_square(x, index=np.array([2]))
    named = {"n_paths": 3, "seed": 1}
    assert fastlam.simulate(fastlam.Brownian(), cuda([0.1, 0.1, 0.2]), **named)[1:].isnan().all()
    for sigma in (torch.nan, torch.inf, -0.1):
        process = fastlam.Brownian(sigma=torch.tensor(sigma, device="cuda"))
        assert fastlam.simulate(process, cuda([0.1]), **named).isnan().all()
        assert fastlam.simulate_mean_square(process, cuda([0.1]), **named).isnan().all()
    with pytest.raises(ValueError, match="mean_square: x is on cuda:0, but index is on cpu"):
        fastlam.mean_square(x, index=torch.tensor([0]))
    with pytest.raises(ValueError, match="times is on cpu, but mu is on cuda:0"):
        fastlam.simulate(fastlam.Brownian(x[0, 0]), torch.tensor([0.1]), **named)


def test_memory_that_does_not_suffice():
    """A clear error, and the next call works."""
    times = cuda(np.arange(1.0, 4001.0))
    with pytest.raises(MemoryError, match=r"simulate needs .* GB on GPU 0"):
        fastlam.simulate(fastlam.Brownian(), times, 2**61, seed=1, dtype="float32")
    with pytest.raises(MemoryError, match=r"simulate needs 4,295\.0 GB on GPU 0, but .* GB are available: take fewer"):
        fastlam.simulate(fastlam.Brownian(), times, 2**28, seed=1, dtype="float32")
    assert fastlam.simulate(fastlam.Brownian(), times, 10, seed=1).isfinite().all()
