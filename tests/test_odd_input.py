"""Odd input that is read right: NumPy's and torch's scalars, any layout, NaN and infinity, more than 2**31 elements."""

import numpy as np
import pytest
import torch
from numpy_cases import read_only

import fastlam

NAN, INFINITY = float("nan"), float("inf")
X = np.arange(1.0, 13.0).reshape(3, 4)
TIMES = np.array([0.5, 1.0, 2.0])


def simulate(**changes):
    """A sound call but for `changes`."""
    return fastlam.simulate(fastlam.Brownian(), **{"times": TIMES, "n_paths": 4, "seed": 1, **changes})


def test_integers_of_numpy_are_welcome():
    answer = simulate(seed=np.uint64(2**64 - 1), n_paths=np.int8(4), first_path=np.uint64(2**64 - 4))
    np.testing.assert_array_equal(answer, simulate(seed=2**64 - 1, first_path=2**64 - 4))


def test_parameters_of_numpy_and_torch_are_welcome():
    process = fastlam.Brownian(mu=np.float32(0.5), sigma=torch.tensor(2.0), x0=np.array(1))
    assert process == fastlam.Brownian(mu=0.5, sigma=2.0, x0=1.0)


LAYOUTS = {
    "read-only": read_only(X.copy()),
    "column-major": np.asfortranarray(X),
    "big-endian": X.astype(">f8"),
    "negative strides": X[::-1, ::-1].copy()[::-1, ::-1],
    "strided": np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
    "unaligned": np.frombuffer(b"." + X.tobytes(), np.uint8)[1:].view("f8").reshape(X.shape),
    "tensor": torch.tensor(X),
    "transposed tensor": torch.tensor(X.T).T,
    "tensor to be negated": torch.complex(torch.zeros(3, 4).double(), torch.tensor(-X)).conj().imag,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_read_and_left_alone(name):
    x, lam, index = LAYOUTS[name], np.array([2.0, 3.0]), np.array([2, -3])
    answer = fastlam.mean_square(x, lam, index=index)
    np.testing.assert_array_equal(answer, fastlam.mean_square(X, lam, index=index))
    assert x.tolist() == X.tolist()
    assert (lam.tolist(), index.tolist()) == ([2.0, 3.0], [2, -3])


def test_expanded_tensors():
    row = torch.arange(1.0, 5.0)
    assert fastlam.mean_square(row.expand(3, 4)).tolist() == [7.5] * 3
    assert fastlam.mean_square(torch.tensor([[2.0], [3.0]]).expand(2, 1000)).tolist() == [4.0, 9.0]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_nan_and_infinity_flow_through(kind):
    x = kind(np.array([[1.0, NAN], [1.0, -INFINITY], [1.0, 3.0]]))
    np.testing.assert_array_equal(fastlam.mean_square(x), [NAN, INFINITY, 5.0])


def test_more_than_2_to_31_elements():
    """One row of memory, read as 2**31 + 3072 elements in place; each mean of 1024 small squares is exact."""
    row = (np.arange(1024) % 4).astype(np.float32)
    answer = fastlam.mean_square(np.broadcast_to(row, (2**21 + 3, 1024)))
    assert answer.shape == (2**21 + 3,)
    assert (answer == 3.5).all()


def test_rows_and_paths_further_apart_than_2_to_31_elements(tmp_path):
    """In a file with holes, of which three rows are ever touched."""
    far = np.memmap(tmp_path / "far", np.float32, "w+", shape=(2**21 + 3, 1024))
    far[-1] = 2
    assert fastlam.mean_square(far, index=np.array([0, -1])).tolist() == [0.0, 4.0]
    out = far[:: 2**21 + 2, :4]
    assert fastlam.simulate(fastlam.Brownian(), TIMES[:2], 4, seed=1, dtype="float32", out=out) is out
    np.testing.assert_array_equal(far[-1, :4], simulate(dtype="float32")[1])
