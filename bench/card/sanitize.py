"""Each kind of kernel once, tiny, for compute-sanitizer to watch: `compute-sanitizer python -m bench.card.sanitize`.

Sizes have tails: paths that fill no block of threads and no leaf, times that fill no block of four, unaligned rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

import fastlam
from bench.processes import LAM, MU, SIGMA

SEED = 7
N, M = 1029, 6
ANSWERS = (torch.float32, False), (torch.float64, True)  # dtype, antithetic noise


def answers(device: str) -> Iterator[tuple[str, torch.Tensor]]:
    """(what, answer) of each kind of call."""
    for dtype, antithetic in ANSWERS:
        times = torch.arange(1, M + 1, dtype=dtype, device=device) / 8
        yield "simulate", fastlam.simulate(fastlam.Brownian(MU, SIGMA), times, N, seed=SEED, antithetic=antithetic)
        yield from one_pass(times, antithetic)
        for n in (2100, 33_001):  # of one block of threads, and of two
            yield from rows(torch.linspace(-1, 1, 5 * n, dtype=dtype, device=device).reshape(5, n))


def one_pass(times: torch.Tensor, antithetic: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """Means of paths that are not stored, gradients and standard errors."""
    sigma, lam = (torch.tensor(value, device=times.device, requires_grad=True) for value in (SIGMA, LAM))
    process = fastlam.Brownian(MU, sigma)
    named = {"seed": SEED, "antithetic": antithetic, "return_stderr": True}
    k, stderr = fastlam.simulate_mean_square(process, times, N + 1, lam, **named)  # antithetic paths come in pairs
    k.sum().backward()
    yield "simulate_mean_square", k.detach()
    yield "its standard error", stderr.detach()
    for name, leaf in {"lam": lam, "sigma": sigma}.items():
        assert leaf.grad is not None
        yield f"its gradient in {name}", leaf.grad


def rows(whole: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Means of rows, aligned and not, all and picked, with gradients."""
    for x in (whole, whole[:, 1:]):
        for index in (None, torch.tensor([3, 0, 3, -1], device=whole.device)):
            leaf = x.detach().requires_grad_()
            k = fastlam.mean_square(leaf, LAM, index=index)
            k.sum().backward()
            yield "mean_square", k.detach()
            assert leaf.grad is not None
            yield "its gradient in x", leaf.grad


def main() -> int:
    """Every answer must be finite; what else the kernels do is the sanitizer's to say."""
    count = 0
    for what, answer in answers("cuda"):
        if not answer.isfinite().all():
            print(f"{what}: not finite")
            return 1
        count += 1
    print(f"{count} answers, all finite")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
