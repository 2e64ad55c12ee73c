"""Warmup: what it compiles, and for which dtypes."""

import numpy as np
import pytest
import torch

import fastlam
from fastlam.kernels.launch import compiled

SINGLE = ["float32", torch.float32, np.float32, np.dtype("float32"), (torch.float32,), ["float32"]]


@pytest.mark.parametrize("dtypes", SINGLE, ids=repr)
def test_nothing_is_left_to_compile(dtypes):
    fastlam.warmup(dtypes)
    kernels = compiled.cache_info().currsize
    for antithetic in (False, True):
        x = fastlam.simulate(fastlam.Brownian(), torch.ones(1), 4, seed=1, antithetic=antithetic)
        fastlam.mean_square(x.requires_grad_(), 0.5).sum().backward()
    assert compiled.cache_info().currsize == kernels


@pytest.mark.parametrize(
    "dtypes", [torch.float16, "int32", ("float32", "half"), np.ones(2), np.array(1.0), 3, None, (None,), (), object()]
)
def test_other_dtypes_are_refused(dtypes):
    with pytest.raises(TypeError, match=r"warmup: dtypes? must be float32(,| or) float64.*, but is "):
        fastlam.warmup(dtypes)
