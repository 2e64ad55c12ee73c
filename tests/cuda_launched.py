"""Run as a program: what is launched for tensors and CuPy's arrays, each launch run on the CPU (ptx_machine.py).

`python cuda_launched.py CASE` exits with 0 where public functions give the bits that they give on the CPU, and no
kernel touches memory beyond that of the arrays that it is given, from their addresses on, or reads 16 bytes where that
is not aligned.
"""

import contextlib
import ctypes
import json
import sys
import tempfile
from pathlib import Path

import cupy_on_cpu
import numpy as np
import ptx_machine
import torch
from cuda_cases import FUNCTIONALS, PROCESSES

import fastlam
from fastlam import cli, commands, fit, gpu, gpu_paths, gpu_rows, on_torch, one_pass, rows
from fastlam.data import load_paths
from fastlam.elements import record
from fastlam.stream import Stream

TIMES = np.cumsum([0.1, 0.2, 0.15])
SEED, FIRST = 2**63 + 7, 2**33 + 2


def launched(case, grid, *values):
    """`gpu.launch` on the CPU: an array goes as the memory from its address on."""

    def memory(value):
        if isinstance(value, ctypes.c_uint64):
            return np.uint64(value.value)
        if isinstance(value, cupy_on_cpu.ndarray):
            value = value.memory
            root = value if value.base is None else value.base
            size = (root.ctypes.data + root.nbytes - value.ctypes.data) // value.itemsize
            return np.lib.stride_tricks.as_strided(value, (size,), (value.itemsize,))
        if not isinstance(value, torch.Tensor):
            return value
        size = value.untyped_storage().nbytes() // value.itemsize - value.storage_offset()
        return value.detach().as_strided((size,), (1,)).numpy()

    ptx_machine.run(case, grid, *map(memory, values))


@contextlib.contextmanager
def on_gpu():
    """Every tensor says that it is on a GPU."""
    torch.Tensor.is_cuda = property(lambda tensor: not tensor.is_meta)
    try:
        yield
    finally:
        del torch.Tensor.is_cuda


def same(got, want):
    assert got.shape == want.shape, (got.shape, want.shape)
    assert got.dtype == want.dtype
    assert got.tobytes() == want.tobytes(), np.abs(got - want).max()


def as_on_the_cpu(function):
    """`function()`, a list of tensors, has the same bits on both."""
    want = function()
    with on_gpu():
        got = function()
    for a, b in zip(got, want, strict=True):
        assert (a.dtype, a.device) == (b.dtype, b.device)
        same(a.detach().numpy(), b.detach().numpy())


def check_launches_of_rows():
    """What is launched for tensors, with every launch simulated: layouts, index, blocks, gradient."""
    payoff, theta = record(FUNCTIONALS["polynomial"].handle), torch.tensor([0.5, 0.1, -0.2, 0.3], dtype=torch.float64)
    square = record(fastlam.Square.handle)
    base = torch.randn(3, 2, 2, 1100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    index = torch.tensor([[2, -3], [0, 2]])
    for x in (
        base[0, 0],
        base[0, 0, 0],
        base[1, :, :1, :899],  # of the shape and strides of the next, which begins between multiples of 16 bytes
        base[1, :, :1, 1:900],
        base[:, 0],
        base[1:, :1, :, :3].mT,
        base[0, :, 1, ::3],
        base[:, :, :1].transpose(1, 2)[..., :70],
        base[:, None, 0, :, 1:40],
    ):
        for picked in (None, index) if x.ndim > 2 else (None,):
            at = None if picked is None else torch.where(picked < 0, picked % len(x) - len(x), picked % len(x))
            place = None if at is None else at.numpy()
            want = rows.array_terms(x.numpy(), payoff, theta.numpy(), (0, 2), place)
            same(gpu_rows.means(x, payoff, theta, (0, 2), at).numpy(), want)
            want = rows.array_means(x.numpy(), place, "float64")
            same(gpu_rows.means(x, square, None, (), at)[0].numpy(), want)
    x = base[:, :, 1, :37]
    weights = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    same(
        gpu_rows.slopes(x, weights, index).numpy(),
        rows.array_slopes(x.numpy(), weights.numpy(), index.numpy()),
    )
    weights = weights[0].expand(3, 2, 2)[:, 0]
    same(gpu_rows.slopes(x, weights, None).numpy(), rows.array_slopes(x.numpy(), weights.numpy()))


def check_launches_of_paths():
    """Coefficients, slabs, tops of trees, derivatives in several passes."""
    process, functional = PROCESSES["ornstein_uhlenbeck"], FUNCTIONALS["polynomial"]
    dynamics, payoff = record(process.handle), record(functional.handle)
    theta = torch.tensor([*functional.parameters().values(), *process.parameters().values()], dtype=torch.float64)
    grid = torch.from_numpy(TIMES.copy())
    out = torch.full((3, 40), torch.nan)
    stream = Stream(SEED, FIRST, 37, True, "float32")
    gpu_paths.fill_paths(out[:, :37], dynamics, grid, theta[4:], stream)
    same(
        out[:, :37].numpy().copy(),
        fastlam.simulate(process, TIMES, 37, seed=SEED, first_path=FIRST, antithetic=True, dtype="float32"),
    )
    gpu_paths.SLAB_TILES = 1
    wanted = tuple(range(8))
    stream = Stream(SEED, FIRST, 2 * 1024 + 12, False, "float64")
    assert gpu_paths._parts(dynamics, payoff, wanted, "float32", True) == [wanted]
    gpu_paths.times_together = lambda n_terms, n_tangents, dtype: 4 if n_tangents < 3 else 0
    assert gpu_paths._parts(dynamics, payoff, wanted, "float64", True) == [(0, 1, 2, 3, 4, 5), (6, 7)]
    got = gpu_paths.mean_table(dynamics, payoff, theta, (0, 4, 5, 7), grid, stream, True)
    want = one_pass.mean_table("simulate_mean", dynamics, payoff, theta.numpy(), (0, 4, 5, 7), TIMES, stream, True)
    same(got.numpy(), want)


def values(generator=1, shape=(3, 1030), dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(generator), dtype=dtype)


def mean_square():
    """Values, gradients in x and lam, an index, derivatives of the second order, transforms."""
    index = torch.tensor([2, -3, 2])

    def trained():
        x, lam = values().requires_grad_(), torch.tensor(0.25, requires_grad=True)
        answer = fastlam.mean_square(x, lam, index=index)
        gradients = torch.autograd.grad(answer.sum(), (x, lam), create_graph=True)
        (twice,) = torch.autograd.grad(gradients[0].square().sum(), x)
        answer = fastlam.mean_square(x, lam)
        answer.backward(torch.tensor([1.0, 2.0, 3.0]))
        return [answer, *gradients, twice, x.grad, lam.grad]

    def transformed():
        x, mean = values(2, (2, 3, 5), torch.float64), lambda x: fastlam.mean_square(x, 2.0).sum()
        return [
            torch.func.grad(mean)(x), torch.func.jvp(mean, (x,), (x,))[1], torch.vmap(torch.func.grad(mean))(x),
            *fastlam.mean_square_value_and_grad(x, index=np.array([1, 1])), fastlam.LambdaModel(0.5)(x),
        ]  # fmt: skip

    as_on_the_cpu(trained)
    as_on_the_cpu(transformed)


def mean():
    """A functional with parameters to learn; x in another layout."""

    def trained():
        strike = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        x = values(3, (7, 3, 2), torch.float64).permute(1, 2, 0).requires_grad_()
        answer = fastlam.mean(fastlam.Functional("max(x - k, 0)", {"k": strike}), x, index=torch.tensor([1, 0, 1]))
        answer.sum().backward()
        third = fastlam.mean(fastlam.Polynomial([0, 0, 0, 1]), values()).double()
        slopes = torch.func.jvp(lambda x: fastlam.mean(fastlam.Polynomial([0, 1, 2]), x), (x.detach(),), (x.detach(),))
        return [answer, x.grad, strike.grad, third, *slopes]

    as_on_the_cpu(trained)
    names = [f"a{i}" for i in range(40)]  # more than one launch finds, and than threads of a small block

    def many():
        learned = {name: torch.tensor(0.1, dtype=torch.float64, requires_grad=True) for name in names}
        functional = fastlam.Functional(" + ".join(f"a{i} * x**{i % 5}" for i in range(40)), learned)
        answer = fastlam.mean(functional, values(4, (2, 70), torch.float64))
        return [answer, *torch.autograd.grad(answer[0], list(learned.values()))]

    as_on_the_cpu(many)


def simulate():
    """Parameters as numbers and tensors, a given `out`, integers as times."""

    def simulated():
        process = fastlam.GeometricBrownian(torch.tensor(0.1), 0.3, torch.tensor([1.5]))
        out = torch.full((3, 9), torch.nan)
        version = out._version
        paths = fastlam.simulate(process, torch.from_numpy(TIMES), 7, seed=SEED, dtype="float32", out=out[:, :7])
        assert out._version > version
        return [paths, out[:, :7], fastlam.simulate(process, torch.tensor([1, 3]), 300, seed=1, antithetic=True)]

    as_on_the_cpu(simulated)
    as_on_the_cpu(in_a_transform)
    with on_gpu():
        paths = fastlam.simulate(fastlam.Brownian(torch.tensor(0.0), sigma=0.1), torch.tensor([1.0, 0.5]), 2, seed=1)
    assert paths[1].isnan().all()


def in_a_transform():
    def loss(lam):
        times = torch.ones(1)  # made inside: wrapped
        return lam * fastlam.simulate(fastlam.Brownian(), times, 5, seed=1).sum()

    return [torch.func.grad(loss)(torch.tensor(1.0))]


def simulate_mean():
    """Means, gradients in all that is a tensor, standard errors, progress."""

    def simulated():
        lam, mu, x0 = (torch.tensor(value, requires_grad=True) for value in (0.25, 0.1, 1.0))
        process, times = fastlam.OrnsteinUhlenbeck(0.5, mu, 0.3, x0), torch.from_numpy(TIMES)
        named = {"seed": SEED, "first_path": FIRST, "antithetic": True, "return_stderr": True}
        told = []
        k, stderr = fastlam.simulate_mean_square(
            process, times, 1100, lam, **named, progress=lambda *done: told.append(done)
        )
        assert told == [(1100, 1100)]
        k.sum().backward()
        center = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        moment = fastlam.simulate_mean(
            fastlam.Polynomial([0, 1, 1], center), fastlam.CoxIngersollRoss(), times.float(), 40, seed=1
        )
        moment.sum().backward()
        return [k, stderr, lam.grad, mu.grad, x0.grad, moment, center.grad]

    as_on_the_cpu(simulated)


def fitted():
    """`fit` of tensors, and of NumPy's paths brought to the GPU a slab at a time."""
    x = fastlam.simulate(fastlam.Brownian(), torch.from_numpy(TIMES), 50, seed=1)
    k = fastlam.mean_square(x, 0.25)
    want = fastlam.fit(x, k)
    gpu_rows.SLAB_BYTES = 400
    fit.check_device = lambda name, device: device
    with on_gpu():
        for found in (fastlam.fit(x, k), fastlam.fit(x.numpy(), k.numpy(), device="cpu")):
            assert (found.lam, found.means.tolist()) == (want.lam, want.means.tolist())


def commands_on_device():
    """`fastlam fit`, its paths stored or not, and `simulate`, with and without --device."""

    def results(device):
        commands.check_device = lambda name, text: device
        with tempfile.TemporaryDirectory() as folder:
            for extra in ((), ("--one-pass",)):
                assert cli.run(["fit", "--n-paths", "40", "--n-times", "3", "--out", folder, *extra]) == 0
                done = json.loads((Path(folder) / "fit.json").read_text())
                yield {key: done[key] for key in ("lam", "means", "targets", "holdout_paths_loss")}
            for name in ("x.npy", "x.npz"):
                assert cli.run(["simulate", "--n-paths", "40", "--n-times", "3", "--out", f"{folder}/{name}"]) == 0
                yield (Path(folder) / name).stat().st_size, np.asarray(load_paths(f"{folder}/{name}")).tobytes()

    want = list(results(None))
    with on_gpu():
        assert list(results("cpu")) == want


def of_cupy():
    """Each public function with CuPy's arrays: they come back."""
    cupy = cupy_on_cpu.install()
    x = np.random.default_rng(1).standard_normal((3, 2, 1030)).astype(np.float32)
    index, there = np.array([2, -3, 2]), cupy.asarray(x)
    lam = np.array([[0.5, 1.0]])
    fine = fastlam.Functional("max(x - k, 0)", {"k": 0.3})
    process, times = fastlam.Brownian(0.1, 0.3, 1.0), cupy.asarray(TIMES)
    named = {"seed": SEED, "first_path": FIRST, "antithetic": True}
    pairs = [
        (fastlam.mean_square(there, lam, index=index), fastlam.mean_square(x, lam, index=index)),
        (fastlam.mean_square(there[1], cupy.asarray(lam[0])), fastlam.mean_square(x[1], lam[0])),
        (fastlam.mean_square(there[0, 0], 3), fastlam.mean_square(x[0, 0], 3)),
        (fastlam.mean(fine, there, index=cupy.asarray(index)), fastlam.mean(fine, x, index=index)),
        (fastlam.simulate(process, times, 7, **named), fastlam.simulate(process, TIMES, 7, **named)),
    ]
    pairs += zip(
        fastlam.mean_square_value_and_grad(there, 2.0), fastlam.mean_square_value_and_grad(x, 2.0), strict=True
    )
    named |= {"return_stderr": True, "dtype": "float32"}
    both = (fastlam.simulate_mean_square(process, at, 1100, -2.0, **named) for at in (times, TIMES))
    pairs += zip(*both, strict=True)
    for got, want in pairs:
        same(got.get(), np.asarray(want))
    out = cupy.asarray(np.full((3, 9), np.nan))
    assert fastlam.simulate(process, times, 7, seed=1, out=out[:, :7]).data.ptr == out.data.ptr
    same(out[:, :7].get(), fastlam.simulate(process, TIMES, 7, seed=1))
    k = fastlam.mean_square(x[:, 0], 0.25)
    assert fastlam.fit(there[:, 0], cupy.asarray(k)).lam == fastlam.fit(x[:, 0], k).lam
    for wrong, error in (
        (lambda: fastlam.mean_square(there, torch.tensor(1.0)), TypeError),
        (lambda: fastlam.mean_square(there, np.ones(5)), ValueError),
        (lambda: fastlam.mean_square(there, index=np.array([3])), IndexError),
        (lambda: fastlam.mean_square(there.astype(np.int64)), TypeError),
        (lambda: fastlam.simulate(process, times, 7, seed=1, out=out.get()), TypeError),
        (lambda: fastlam.simulate(process, times, 7, seed=1, out=out), ValueError),
        (lambda: fastlam.simulate_mean(fine, fastlam.Brownian(torch.tensor(0.1)), times, 7, seed=1), TypeError),
        (lambda: fastlam.LambdaModel()(there), TypeError),
    ):
        try:
            wrong()
        except error:
            continue
        raise AssertionError("accepted")


CASES = {
    "launches of rows": check_launches_of_rows,
    "launches of paths": check_launches_of_paths,
    "mean_square": mean_square,
    "mean": mean,
    "simulate": simulate,
    "simulate_mean": simulate_mean,
    "fit": fitted,
    "commands": commands_on_device,
    "CuPy": of_cupy,
}

if __name__ == "__main__":
    gpu.launch = launched
    on_torch.wait = lambda x: None
    CASES[sys.argv[1]]()
