"""On a card: Philox's known answers, and the bits of the CPU for normals of words at both ends and between."""

import numpy as np
import pytest
import torch
from cuda_cases import make_after_a_loop, make_roots
from gpu_cases import require_a_gpu, same
from numba import types
from test_normal import pairs_float32, pairs_float64
from test_philox import RANDOM123, known_blocks, words

from fastlam import gpu
from fastlam.kernels.cuda import I64, THREADS, cuda
from fastlam.kernels.normal import normals_float32, normals_float64
from fastlam.kernels.philox import philox

require_a_gpu()

pytestmark = pytest.mark.gpu
W64 = types.CPointer(types.uint64)


def make_philox():
    def fill(counters, keys, answers, n):
        i = I64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
        if i < n:
            at = 4 * i
            c0, c1, c2, c3 = counters[at], counters[at + 1], counters[at + 2], counters[at + 3]
            r0, r1, r2, r3 = philox(c0, c1, c2, c3, keys[2 * i], keys[2 * i + 1])
            answers[at], answers[at + 1], answers[at + 2], answers[at + 3] = r0, r1, r2, r3

    return fill, types.void(W64, W64, W64, types.int64)


def make_pairs(element, word, real):
    def pairs(radius, angle, answers, n):
        i = I64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
        if i < n:
            even, odd = element(radius[i], angle[i])
            answers[i], answers[n + i] = even, odd

    W = types.CPointer(getattr(types, word))
    return pairs, types.void(W, W, types.CPointer(getattr(types, real)), types.int64)


def test_values_that_are_wanted_after_a_loop():
    """The assembler's work: the text is right, as tests/test_cuda_ptx.py shows."""
    x, out = torch.arange(8.0, dtype=torch.float64, device="cuda"), torch.zeros(8, dtype=torch.float64, device="cuda")
    gpu.launch(gpu.Case(make_after_a_loop, (), 4), 1, x, 4, out)
    same(out, np.arange(8.0) / 4)


def test_known_answers_of_philox():
    known = [(words(counter), words(key), words(answer)) for counter, key, answer in RANDOM123] + list(known_blocks())
    counters, keys, answers = (torch.tensor(part, dtype=torch.int64) for part in zip(*known, strict=True))
    got = torch.zeros(len(known), 4, dtype=torch.int64, device="cuda")
    gpu.launch(gpu.Case(make_philox), gpu.blocks(len(known)), counters.cuda(), keys.cuda(), got, len(known))
    same(got, answers)


@pytest.mark.parametrize(
    ("element", "word", "real", "on_cpu"),
    [
        (normals_float32, np.uint32, "float32", pairs_float32),
        (normals_float64, np.uint64, "float64", pairs_float64),
    ],
    ids=["float32", "float64"],
)
def test_normals(element, word, real, on_cpu):
    """Radius words at both ends in full and in strides, angle words on both sides of every eighth of a turn."""
    top, ends = int(np.iinfo(word).max), np.arange(2**20, dtype=word)
    strides = np.arange(0, 2**22, dtype=word) * word(top // 2**22 | 1)
    eighths = np.concatenate(
        [np.arange(2**15, dtype=word) + word((k * (top // 8 + 1) - 2**14) % top) for k in range(8)]
    )
    radius = np.concatenate([ends, word(top) - ends, strides, strides[: eighths.size]])
    angle = np.concatenate([strides[: ends.size], strides[-ends.size :], strides[::-1], eighths])
    signed = np.dtype(f"int{8 * radius.itemsize}")
    given = [torch.from_numpy(each.view(signed)).cuda() for each in (radius, angle)]
    got = torch.full((2, radius.size), torch.nan, dtype=getattr(torch, real), device="cuda")
    arguments = element, np.dtype(word).name, real
    gpu.launch(gpu.Case(make_pairs, arguments), gpu.blocks(radius.size), *given, got, radius.size)
    same(got, on_cpu(radius, angle))


def every_root_float32():
    """Zeros, and each float32 from 1 to 4: they stand for all others, by powers of 4."""
    one, four = (int(np.float32(value).view(np.int32)) for value in (1, 4))
    return np.concatenate([np.array([0.0, -0.0], np.float32), np.arange(one, four, dtype=np.int32).view(np.float32)])


def some_roots_float64():
    """Of 16 million fractions, and near both ends of the squares of radii."""
    fractions = np.random.default_rng(1).integers(2**52, size=2**23, dtype=np.int64)
    ends = np.arange(2**20, dtype=np.int64)
    words = [(1023 << 52) | fractions, (1024 << 52) | fractions, (970 << 52) + ends, (1029 << 52) - ends]
    return np.concatenate(words).view(np.float64)


@pytest.mark.parametrize("make_numbers", [every_root_float32, some_roots_float64])
def test_roots(make_numbers):
    """What tests without a card cannot see is the card's reciprocal, from which roots start."""
    x = make_numbers()
    given = torch.from_numpy(x).cuda()
    got = torch.full_like(given, torch.nan)
    gpu.launch(gpu.Case(make_roots, (x.dtype.name,)), gpu.blocks(x.size), given, got, x.size)
    same(got, np.sqrt(x))
