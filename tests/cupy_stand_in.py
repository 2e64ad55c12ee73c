"""As much of CuPy as the benchmarks use, by NumPy: their rows of it run once where there is no card."""

from types import SimpleNamespace

import numpy as np


class RandomState:
    def __init__(self, seed, method):
        assert method in (101, 161)  # cuRAND's own numbers of XORWOW and Philox
        self.generator = np.random.default_rng(seed)

    def normal(self, mean, deviation, size, dtype):
        return self.generator.normal(mean, deviation, size).astype(dtype)


class ElementwiseKernel:
    """The one that adds along paths."""

    def __init__(self, inputs, outputs, source, name):
        assert (inputs, outputs) == ("int64 times, int64 paths", "raw T x")
        assert source.count("{") == source.count("}") == 1

    def __call__(self, m, n, x, size):
        assert size == n
        x.reshape(m, n).cumsum(0, out=x.reshape(m, n))


class ReductionKernel:
    """The one that adds squares."""

    def __init__(self, inputs, outputs, each, add, last, identity, name):
        assert (each, add, last, identity) == ("(double)x * x", "a + b", "y = a", "0")

    def __call__(self, x, axis):
        return (x.astype(np.float64) ** 2).sum(axis)


def generator(seed, size):
    return np.random.PCG64(seed)


cupy = SimpleNamespace(
    random=SimpleNamespace(
        RandomState=RandomState, Generator=np.random.Generator, XORWOW=generator, Philox4x3210=generator
    ),
    cuda=SimpleNamespace(Device=lambda: SimpleNamespace(attributes={"MultiProcessorCount": 2})),
    ElementwiseKernel=ElementwiseKernel,
    ReductionKernel=ReductionKernel,
    cumsum=np.cumsum,
    float32=np.float32,
    from_dlpack=np.from_dlpack,
    get_default_memory_pool=lambda: SimpleNamespace(free_all_blocks=lambda: None),
)
