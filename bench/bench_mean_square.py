"""lam * mean(x**2) over paths: forward, forward + backward in lam, and in x, on inputs larger than most caches.

Baselines: torch eager as one writes it and as a norm (its fastest single pass), torch.compile, NumPy's vecdot (BLAS);
in x also the norm with its gradient written by hand. All but ours add in float32.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

import fastlam
from bench.limits import read_rate
from fastlam import threads

SHAPES = {"67 MB": (256, 65536), "400 MB": (1000, 100_000)}


def eager(x, lam):
    return lam * (x**2).mean(-1)


def norm(x, lam):
    return lam * (torch.linalg.vector_norm(x, dim=-1) ** 2 / x.shape[-1])


class NormByHand(torch.autograd.Function):
    """The gradient in x as the one product that it is."""

    @staticmethod
    def forward(ctx, x, lam):
        ctx.save_for_backward(x)
        ctx.lam = lam
        return norm(x, lam)

    @staticmethod
    def backward(ctx, weight):
        (x,) = ctx.saved_tensors
        return x * (2 * ctx.lam / x.shape[-1] * weight)[:, None], None


compiled = torch.compile(eager, dynamic=False)


@cache
def paths(shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def sized(size, full):
    return paths(SHAPES[size] if full else (8, 1000))


def check(k, x, lam, rtol=2e-3):
    """By default for the baselines' sums in float32, over 1e5 elements."""
    expected = lam * (x.double() ** 2).mean(-1)
    torch.testing.assert_close(torch.as_tensor(k).double(), expected, rtol=rtol, atol=0)


def forward_backward(function, x):
    lam = torch.tensor(0.25, requires_grad=True)
    weight = torch.ones(x.shape[0])

    def call():
        lam.grad = None
        function(x, lam).backward(weight)
        return lam.grad

    expected = (x.double() ** 2).mean(-1).sum().item()
    assert abs(call().item() / expected - 1) < 2e-3
    return call


@pytest.mark.parametrize("size", SHAPES)
def bench_forward_numpy(row, full, size):
    x = sized(size, full).numpy()
    lam = np.float32(0.25)
    check(lam * np.vecdot(x, x) / x.shape[1], sized(size, full), 0.25)
    call = lambda: lam * np.vecdot(x, x) / x.shape[1]  # noqa: E731
    row(f"mean_square forward {size}", "numpy vecdot", call, work=(x.nbytes, "B"))


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("baseline", [eager, norm, compiled], ids=["torch eager", "torch norm", "torch.compile"])
def bench_forward_torch(row, full, request, baseline, size):
    x, lam = sized(size, full), torch.tensor(0.25)
    check(baseline(x, lam), x, 0.25)
    name = request.node.callspec.id.split("-")[0]
    row(f"mean_square forward {size}", name, lambda: baseline(x, lam), work=(4 * x.numel(), "B"))


@pytest.mark.parametrize("size", SHAPES)
def bench_forward_fastlam(row, full, size):
    x, lam = sized(size, full), torch.tensor(0.25)
    check(fastlam.mean_square(x, lam), x, 0.25, rtol=2e-7)  # rounded to float32 twice
    limit = ("reading", read_rate(x)) if full else None
    row(
        f"mean_square forward {size}",
        "fastlam",
        lambda: fastlam.mean_square(x, lam),
        ours=True,
        work=(4 * x.numel(), "B"),
        limit=limit,
    )


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("baseline", [eager, norm, compiled], ids=["torch eager", "torch norm", "torch.compile"])
def bench_backward_torch(row, full, request, baseline, size):
    x = sized(size, full)
    call = forward_backward(baseline, x)
    name = request.node.callspec.id.split("-")[0]
    row(f"mean_square forward + backward {size}", name, call, work=(4 * x.numel(), "B"))


@pytest.mark.parametrize("size", SHAPES)
def bench_backward_fastlam(row, full, size):
    x = sized(size, full)
    call = forward_backward(fastlam.mean_square, x)
    limit = ("reading", read_rate(x)) if full else None
    group = f"mean_square forward + backward {size}"
    row(group, "fastlam", call, ours=True, work=(4 * x.numel(), "B"), limit=limit)


@pytest.mark.parametrize(
    "function",
    [eager, norm, NormByHand.apply, compiled, fastlam.mean_square],
    ids=["torch eager", "torch norm", "torch norm by hand", "torch.compile", "fastlam"],
)
def bench_gradient_in_x(row, full, request, function):
    x = sized("67 MB", full).clone().requires_grad_()
    weight = torch.ones(x.shape[0])

    def call():
        x.grad = None
        function(x, 0.25).backward(weight)
        return x.grad

    torch.testing.assert_close(call(), 0.5 / x.shape[1] * x.detach(), rtol=1e-5, atol=0)
    ours = function is fastlam.mean_square
    name = request.node.callspec.id
    row("mean_square forward + backward in x 67 MB", name, call, ours=ours, work=(12 * x.numel(), "B"))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("what", ["mean_square", "reading"])
def bench_threads(row, full, what, count):
    """Two threads against one: ours, beside what reading gains."""
    x = sized("400 MB", full)
    call = (lambda: fastlam.mean_square(x)) if what == "mean_square" else x.amax
    before = threads.thread_count()
    torch.set_num_threads(count)
    try:
        if what == "mean_square":
            check(call(), x, 1.0, rtol=2e-7)  # rounded to float32
        else:
            assert call().item() == x.numpy().max()
        name = f"{count} thread{'s' * (count > 1)}"
        row(f"{what} threads", name, call, ours=count > 1, work=(4 * x.numel(), "B"))
    finally:
        torch.set_num_threads(before)
