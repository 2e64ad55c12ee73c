"""Rows of means in one pass that stores no path: Brownian motion, its gradients, float64, the other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

import fastlam
from bench.card import cupy_paths, torch_paths
from bench.card.checks import check_means
from bench.card.limits import philox_of
from bench.card.place import Place
from bench.card.row import Row
from bench.processes import LAM, MU, PROCESSES, SIGMA, X0

SEED = 7
ONE_PASS = {"float32": "one pass float32", "float64": "one pass float64"}
GRADIENTS = "one pass float32 forward + backward in lam, mu, sigma, x0"
WITH_GRADIENTS = "GeometricBrownian", "Diffusion"  # by hand, and as text
BY_PROCESS, BY_PROCESS_BACKWARD = "one pass by process", "one pass by process, forward + backward"


def means(place: Place) -> Iterator[Row]:
    """float32, beside torch and CuPy."""
    m, n = place.sizes.m, place.sizes.n
    work = float(m * n), " normals"
    group, limit = ONE_PASS["float32"], philox_of("float32")
    yield Row(group, "fastlam", lambda: brownian(place, n, "float32"), ours=True, work=work, limit=limit)
    running = torch_paths.means_of_running_sum
    steps = lambda: torch_paths.means_of_compiled_steps(place.compile)  # noqa: E731
    yield Row(group, "torch running sum", lambda: by_torch(place, n, running), work=work)
    yield Row(group, "torch.compile, 8 steps a graph", lambda: by_torch(place, n, steps()), work=work)
    n, note = place.fitting(n, 2.5 * 4 * m)
    work = float(m * n), " normals"
    stored = torch_paths.means_by_cumsum
    yield Row(group, "torch normal_, cumsum_, stored", lambda: by_torch(place, n, stored), work=work, note=note)
    if place.cupy is not None:
        yield Row(group, "CuPy stored, ReductionKernel", lambda: by_cupy(place, n), work=work, note=note)


def means_float64(place: Place) -> Iterator[Row]:
    """Ours in float64."""
    work = float(place.sizes.m * place.sizes.n), " normals"
    make = lambda: brownian(place, place.sizes.n, "float64")  # noqa: E731
    yield Row(ONE_PASS["float64"], "fastlam", make, ours=True, work=work, limit=philox_of("float64"))


def gradients(place: Place) -> Iterator[Row]:
    """Four gradients, of lam and of every parameter of the process."""
    work = float(place.sizes.m * place.sizes.n), " normals"
    make = lambda: brownian_backward(place, place.sizes.n)  # noqa: E731
    yield Row(GRADIENTS, "fastlam", make, ours=True, work=work, limit=philox_of("float32"))


def processes(place: Place) -> Iterator[Row]:
    """Every process, and two with gradients. No baseline: each beside the others."""
    n = place.sizes.n_other
    work = float(place.sizes.m * n), " normals"
    limit = philox_of("float32")
    for name in PROCESSES:
        make = lambda name=name: forward(place, name, n)  # noqa: E731
        yield Row(BY_PROCESS, name, make, ours=True, work=work, limit=limit)
    for name in WITH_GRADIENTS:
        make = lambda name=name: backward(place, name, n)  # noqa: E731
        yield Row(BY_PROCESS_BACKWARD, name, make, ours=True, work=work, limit=limit)


def brownian(place: Place, n: int, dtype: str) -> Callable[[], Any]:
    """The law at full size; the bits of means over stored paths, for few of them."""
    process, times = fastlam.Brownian(MU, SIGMA), place.times(dtype)
    check_stored(process, times, place.sizes.n_checked)
    call = lambda: fastlam.simulate_mean_square(process, times, n, LAM, seed=SEED)  # noqa: E731
    check_means(call() / LAM, times, n)
    return call


def check_stored(process: Any, times: torch.Tensor, n: int) -> None:
    """One pass has the bits of two."""
    stored = fastlam.mean_square(fastlam.simulate(process, times, n, seed=SEED), LAM)
    assert torch.equal(fastlam.simulate_mean_square(process, times, n, LAM, seed=SEED), stored), "other than stored"


def leaves(place: Place, name: str) -> tuple[Callable[..., Any], dict[str, torch.Tensor], torch.Tensor]:
    """What makes a process, its parameters as tensors that require grad, and lam, on the device."""
    make, values = PROCESSES[name]
    tensor = lambda value: torch.tensor(value, device=place.device, requires_grad=True)  # noqa: E731
    return make, {key: tensor(value) for key, value in values.items()}, tensor(LAM)


def forward_backward(
    place: Place, make: Callable[..., Any], parameters: dict[str, torch.Tensor], lam: torch.Tensor, n: int
) -> Callable[[], torch.Tensor]:
    """A call is both; it returns the means."""
    times = place.times()
    weight = torch.ones(len(times), device=place.device)

    def call() -> torch.Tensor:
        for leaf in (lam, *parameters.values()):
            leaf.grad = None
        k = fastlam.simulate_mean_square(make(**parameters), times, n, lam, seed=SEED)
        k.backward(weight)
        return k.detach()

    return call


def brownian_backward(place: Place, n: int) -> Callable[[], Any]:
    """Each gradient against stored paths x0 + mu t + sigma W of the same W, for few paths; the law at full size."""
    make, parameters, lam = leaves(place, "Brownian")
    few, t = place.sizes.n_checked, place.times().double()[:, None]
    forward_backward(place, make, parameters, lam, few)()
    w = fastlam.simulate(fastlam.Brownian(0.0, 1.0), place.times(), few, seed=SEED).double()
    x = X0 + MU * t + SIGMA * w
    slopes = {"lam": x * x, "mu": 2 * LAM * x * t, "sigma": 2 * LAM * x * w, "x0": 2 * LAM * x}
    for name, slope in slopes.items():  # tolerances: paths in float32 of some hundred steps
        got = (lam if name == "lam" else parameters[name]).grad
        torch.testing.assert_close(got.double(), slope.mean(1).sum(), rtol=1e-4, atol=1e-4)
    call = forward_backward(place, make, parameters, lam, n)
    check_means(call() / LAM, place.times(), n, X0)
    return call


def forward(place: Place, name: str, n: int) -> Callable[[], Any]:
    """The bits of means over stored paths, for few of them."""
    make, values = PROCESSES[name]
    process, times = make(**values), place.times()
    check_stored(process, times, place.sizes.n_checked)
    return lambda: fastlam.simulate_mean_square(process, times, n, LAM, seed=SEED)


def backward(place: Place, name: str, n: int) -> Callable[[], Any]:
    """The means of the forward pass alone, finite gradients, and that in lam, in which the means are linear."""
    make, parameters, lam = leaves(place, name)
    few = place.sizes.n_checked
    k = forward_backward(place, make, parameters, lam, few)()
    process = make(**{key: leaf.detach() for key, leaf in parameters.items()})
    alone = fastlam.simulate_mean_square(process, place.times(), few, LAM, seed=SEED)
    assert torch.equal(k, alone), "means that differ from those without gradients"
    torch.testing.assert_close(LAM * lam.grad, k.sum(), rtol=1e-5, atol=0)  # sums in float32
    assert all(leaf.grad.isfinite() for leaf in parameters.values()), "a gradient that is not finite"
    return forward_backward(place, make, parameters, lam, n)


def by_torch(place: Place, n: int, function: Callable[..., torch.Tensor]) -> Callable[[], Any]:
    """One way of torch's."""
    call = lambda: function(place.sizes.m, n, place.device)  # noqa: E731
    check_means(call(), place.times(), n)
    return call


def by_cupy(place: Place, n: int) -> Callable[[], Any]:
    """Stored paths by an ElementwiseKernel, reduced by a ReductionKernel."""
    paths, reduce = cupy_paths.by_kernel(place.cupy), cupy_paths.mean_square(place.cupy)
    call = lambda: reduce(paths(place.sizes.m, n))  # noqa: E731
    check_means(torch.as_tensor(call()), place.times(), n)
    return call
