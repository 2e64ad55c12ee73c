"""What this machine can do at most, measured in the run that quotes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numba import carray, njit, types

from fastlam import threads
from fastlam.kernels.memory import claim, pointer, stack
from fastlam.kernels.philox import philox

PATHS, BLOCKS = 1024, 4096


def median_seconds(function: Callable[[], object], rounds: int = 15) -> float:
    """Median time of a call, after two that do not count."""
    seconds = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[2:]))


def read_rate(x: torch.Tensor) -> float:
    """GB/s at which all threads read x: the faster of torch's sum and largest element."""
    return x.numel() * x.element_size() / min(median_seconds(x.sum), median_seconds(x.amax)) / 1e9


@cache
def philox_rate(normals_per_block: int) -> float:
    """G normals/s if Philox were all there is: its words drawn and left in the first-level cache, on all threads."""
    n_words = 4 * PATHS

    @njit(types.boolean(*[types.int64] * 4), nogil=True, error_model="numpy")
    def draw(claims: int, n_chunks: int, budget: int, answer: int) -> bool:
        words = carray(stack(np.uint32, n_words), (4, PATHS))
        out = carray(pointer(answer, np.int64), (1,))
        for _ in range(budget):
            block = claim(claims)
            if block >= n_chunks:
                return False
            for i in range(PATHS):
                r0, r1, r2, r3 = philox(
                    np.uint64(i), np.uint64(0), np.uint64(block), np.uint64(0), np.uint64(7), np.uint64(0)
                )
                words[0, i], words[1, i], words[2, i], words[3, i] = r0, r1, r2, r3
            out[0] ^= words[block % 4, block % PATHS]
        return True

    answer = np.zeros(1, np.int64)
    seconds = median_seconds(lambda: threads.run(draw, BLOCKS, 1e9, answer.ctypes.data))
    return normals_per_block * PATHS * BLOCKS / seconds / 1e9
