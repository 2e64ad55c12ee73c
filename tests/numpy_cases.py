"""What the tests of mean_square in value share: inputs, what sameness is, what error is allowed."""

import numpy as np
import pytest
import torch

# float64: at most 21 additions deep here and 30 in NumPy's pairwise sum, each within 1.1e-16, all terms positive.
# float32: lam, the mean, and their product are each rounded once, within 6e-8.
TOLERANCE = {"float32": 2e-7, "float64": 1e-14}
DTYPE = pytest.mark.parametrize("dtype", ["float32", "float64"])
KIND = pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])


def normals(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def bits(array):
    """Shape, dtype and bytes: what two answers must share to be the same."""
    array = np.asarray(array)
    return array.shape, array.dtype, array.tobytes()


def read_only(x):
    x.flags.writeable = False
    return x
