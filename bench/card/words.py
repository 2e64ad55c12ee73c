"""Philox alone on a card: what all normals are made of, and nothing else. The ceiling of every path."""

from __future__ import annotations

from typing import Any

import torch
from numba import types

from fastlam import gpu
from fastlam.kernels import cuda_launch
from fastlam.kernels.cuda import I64, THREADS, U64, I, U, cuda
from fastlam.kernels.philox import philox

SEED = 7
LOW, HALF = U64(2**32 - 1), U64(32)


def make_words() -> tuple[Any, Any]:
    """out[i] = all words of the first n_blocks blocks of path i, by exclusive or; a thread a path."""

    def words(out: Any, n_paths: Any, n_blocks: Any, key0: Any, key1: Any) -> None:
        i = I64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
        if i < n_paths:
            path = U64(i)
            total = U64(0)
            block = 0
            while block < n_blocks:
                r0, r1, r2, r3 = philox(path & LOW, path >> HALF, U64(block), U64(0), key0, key1)
                total ^= r0 ^ r1 ^ r2 ^ r3
                block += 1
            out[i] = total

    return words, types.void(types.CPointer(types.uint64), I, I, U, U)


def draw(out: torch.Tensor, n_blocks: int) -> None:
    """Draw the words of so many blocks of each path on the card that `out`, int64, is on."""
    n = out.numel()
    key = cuda_launch.word(SEED), cuda_launch.word(0)
    gpu.launch(gpu.Case(make_words, (), THREADS), gpu.blocks(n), out, n, n_blocks, *key)
