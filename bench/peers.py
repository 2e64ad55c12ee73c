"""mean(x**2) over Brownian paths that are not stored, as others do it: each the fastest way found on two cores.

Noise is drawn into a buffer that stays in the cache, added to the state, and reduced before the next is drawn.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from bench.processes import DT, MU, SIGMA
from fastlam import threads

CHUNK, ROWS, PAIR = 8192, 16, 2  # paths and times in a buffer; times reduced at once: too little to be shared out
POOL = ThreadPoolExecutor()


def cut(n):
    """Pieces of n paths, and paths of a piece: all alike, so that up to a few paths are left out."""
    pieces = -(-n // CHUNK)
    return pieces, n // pieces


def torch_part(m, n, dtype, generator):
    """Means of x**2 over n paths, on the thread that calls."""
    pieces, chunk = cut(n)
    x = torch.empty(ROWS, chunk, dtype=dtype)
    last, rows, pairs, sums = torch.empty(chunk, dtype=dtype), x.unbind(), x.split(PAIR), torch.zeros(m)
    for _ in range(pieces):
        last.zero_()
        norms = []
        for _ in range(0, m, ROWS):
            x.normal_(MU * DT, SIGMA * DT**0.5, generator=generator)
            for before, row in pairwise((last, *rows)):
                row.add_(before)
            last.copy_(rows[-1])
            norms += [torch.linalg.vector_norm(pair, dim=1) for pair in pairs]
        sums += torch.cat(norms)[:m].square_()
    return sums / (pieces * chunk)


def torch_chunks(m, n, dtype):
    """As one writes it: torch draws normals on one thread."""
    return torch_part(m, n, getattr(torch, dtype), None)


def torch_on_threads(m, n, dtype):
    """A Python thread and a generator for each core."""
    count = threads.thread_count()
    work = [(m, n // count, getattr(torch, dtype), torch.Generator().manual_seed(seed)) for seed in range(count)]
    return sum(POOL.map(torch_part, *zip(*work, strict=True))) / count


def numpy_part(m, n, dtype, seed):
    """Means of x**2 over n paths, summed in units of one step's deviation: one operation less."""
    (pieces, chunk), real = cut(n), np.dtype(dtype).type
    generator = np.random.Generator(np.random.SFC64(seed))
    z, x, sums = np.empty(chunk, dtype), np.empty(chunk, dtype), np.zeros(m)
    for _ in range(pieces):
        x[:] = 0
        for j in range(m):
            generator.standard_normal(out=z, dtype=dtype)
            z += real(MU * DT**0.5 / SIGMA)
            x += z
            sums[j] += np.dot(x, x)
    return sums * (SIGMA**2 * DT / (pieces * chunk))


def numpy_on_threads(m, n, dtype):
    """NumPy's fastest generator, one for each core."""
    count = threads.thread_count()
    work = [(m, n // count, dtype, seed) for seed in np.random.SeedSequence(7).spawn(count)]
    return sum(POOL.map(numpy_part, *zip(*work, strict=True))) / count


@cache
def compiled_scan(m, n):
    """All paths at once and the default generator: chunks of paths, and "rbg", are slower on CPUs."""
    jax = pytest.importorskip("jax", reason="JAX is not installed: pip install -c constraints.txt '.[peers]'")
    jnp = jax.numpy

    def step(x, key):
        x = x + (MU * DT + SIGMA * DT**0.5 * jax.random.normal(key, (n,), jnp.float32))
        return x, jnp.mean(x * x)

    return jax.jit(lambda key: jax.lax.scan(step, jnp.zeros(n, jnp.float32), jax.random.split(key, m))[1]), jax


def jax_scan(m, n, dtype):
    """One compiled scan over times."""
    scan, jax = compiled_scan(m, n)
    return np.asarray(scan(jax.random.key(7)))
