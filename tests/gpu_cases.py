"""What the tests on a card share: its tensors, and bits compared with the CPU's."""

import numpy as np
import pytest
import torch

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
SEED, FIRST = 2**63 + 7, 2**33 + 2  # words of the key and of the path's number above and below 2**31
TIMES = np.cumsum([0.1, 0.2, 0.15, 0.3, 0.1, 0.2, 0.4])


def require_a_gpu():
    """Skip the module where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("waits for an NVIDIA GPU", allow_module_level=True)


def cuda(array, dtype=None):
    """An array or a tensor on the card."""
    return torch.as_tensor(array, dtype=None if dtype is None else getattr(torch, dtype)).cuda()


def same(got, want):
    """A tensor of the card, and an array or a tensor of the CPU: equal bits."""
    assert got.is_cuda
    got, want = got.detach().cpu().numpy(), np.asarray(want.detach() if isinstance(want, torch.Tensor) else want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    if got.tobytes() != want.tobytes():  # said with what differs; NaN by NaN
        np.testing.assert_array_equal(got, want)
        signs = (np.signbit(each) & ~np.isnan(each) for each in (got, want))  # of NaN they are a processor's own
        np.testing.assert_array_equal(*signs)
