"""Bad input: what is refused, and with which words."""

import warnings

import numpy as np
import pytest
import torch

import fastlam
from fastlam import arrays

NAN, INFINITY = float("nan"), float("inf")
X = np.arange(1.0, 13.0).reshape(3, 4)  # accepted wherever an `x` is
TIMES = np.array([0.5, 1.0, 2.0])


def simulate(**changes):
    """A sound call but for `changes`."""
    sound = {"process": fastlam.Brownian(), "times": TIMES, "n_paths": 4, "seed": 1}
    return fastlam.simulate(**{**sound, **changes})


def masked(values):
    return np.ma.masked_array(values, mask=np.arange(np.size(values)).reshape(np.shape(values)) == 1)


def read_only(array):
    array.flags.writeable = False
    return array


PROCESSES = [
    ({"mu": NAN}, ValueError, "Brownian|mu|finite|nan"),
    ({"mu": INFINITY}, ValueError, "Brownian|mu|finite|inf"),
    ({"sigma": NAN}, ValueError, "Brownian|sigma|finite|nan"),
    ({"sigma": INFINITY}, ValueError, "Brownian|sigma|finite|inf"),
    ({"x0": -INFINITY}, ValueError, "Brownian|x0|finite|-inf"),
    ({"x0": torch.tensor(NAN)}, ValueError, "Brownian|x0|finite|nan"),
    ({"sigma": -0.1}, ValueError, "Brownian|sigma|at least 0|-0.1"),
    ({"mu": None}, TypeError, "Brownian|mu|real number|None"),
    ({"mu": "0.1"}, TypeError, "Brownian|mu|real number|0.1"),
    ({"sigma": 1j}, TypeError, "Brownian|sigma|real number|1j"),
    ({"sigma": np.ones(2)}, TypeError, "Brownian|sigma|real number|1."),
    ({"x0": torch.ones(2)}, TypeError, "Brownian|x0|real number|tensor"),
]

SIMULATIONS = [
    ({"process": None}, TypeError, "process|Brownian|None"),
    ({"process": fastlam.Brownian}, TypeError, "process|Brownian"),
    ({"n_paths": 0}, ValueError, "n_paths|at least 1|0"),
    ({"n_paths": -3}, ValueError, "n_paths|at least 1|-3"),
    ({"n_paths": 2.0}, TypeError, "n_paths|integer|2.0"),
    ({"n_paths": True}, TypeError, "n_paths|integer|True"),
    ({"n_paths": None}, TypeError, "n_paths|integer|None"),
    ({"seed": None}, TypeError, "seed|integer|None"),
    ({"seed": False}, TypeError, "seed|integer|False"),
    ({"seed": np.bool_(True)}, TypeError, "seed|integer|True"),
    ({"seed": 1.0}, TypeError, "seed|integer|1.0"),
    ({"seed": np.float64(7)}, TypeError, "seed|integer|7.0"),
    ({"seed": "7"}, TypeError, "seed|integer|'7'"),
    ({"seed": -1}, ValueError, "seed|at least 0|2**64|-1"),
    ({"seed": np.int64(-5)}, ValueError, "seed|at least 0|2**64|-5"),
    ({"seed": 2**64}, ValueError, "seed|below 2**64|18446744073709551616"),
    ({"first_path": -1}, ValueError, "first_path|at least 0|-1"),
    ({"first_path": 2**64 - 3}, ValueError, "first_path|2**64|18446744073709551617"),
    ({"first_path": 0.5}, TypeError, "first_path|integer|0.5"),
    ({"antithetic": 1}, TypeError, "antithetic|True or False|1"),
    ({"antithetic": None}, TypeError, "antithetic|True or False|None"),
    ({"dtype": np.float16}, TypeError, "dtype|float32|float64|float16"),
    ({"dtype": torch.bfloat16}, TypeError, "dtype|float32|float64|bfloat16"),
    ({"dtype": "int32"}, TypeError, "dtype|float32|float64|int32"),
    ({"dtype": "float99"}, TypeError, "dtype|float32|float64|float99"),
    ({"times": np.array([])}, ValueError, "times|at least one|(0,)"),
    ({"times": np.ones((2, 2))}, ValueError, "times|1-D|(2, 2)"),
    ({"times": np.array(1.0)}, ValueError, "times|1-D|()"),
    ({"times": torch.ones(2, 2)}, ValueError, "times|1-D|(2, 2)"),
    ({"times": np.array([0.1, 0.3, 0.2, 0.1])}, ValueError, "times|strictly increasing|times[2] = 0.2|times[1] = 0.3"),
    ({"times": np.array([0, 1, 1])}, ValueError, "times|strictly increasing|times[2] = 1|times[1] = 1"),
    ({"times": torch.tensor([2, 1])}, ValueError, "times|strictly increasing|times[1] = 1|times[0] = 2"),
    ({"times": np.array([-0.5, 1.0])}, ValueError, "times|at least 0|times[0] = -0.5"),
    ({"times": np.array([0.0, NAN, 1.0])}, ValueError, "times|finite|times[1] = nan"),
    ({"times": np.array([0.0, 1.0, INFINITY])}, ValueError, "times|finite|times[2] = inf"),
    ({"times": np.array([False, True])}, TypeError, "times|float32|float64|integer|bool"),
    ({"times": np.array([1j])}, TypeError, "times|float32|float64|integer|complex128"),
    ({"times": TIMES.astype("float16")}, TypeError, "times|float32|float64|integer|float16"),
    ({"times": torch.ones(1, dtype=torch.bfloat16)}, TypeError, "times|float32|float64|integer|bfloat16"),
    ({"times": [0.5, 1.0]}, TypeError, "times|NumPy array|torch tensor|list"),
    ({"times": masked(TIMES)}, TypeError, "times|masked"),
    ({"times": TIMES.astype(object)}, TypeError, "times|object"),
    ({"times": torch.ones(1).to_sparse()}, TypeError, "times|sparse|to_dense"),
    ({"times": torch.ones(1, requires_grad=True)}, TypeError, "times|grad|detach"),
    ({"process": fastlam.Brownian(mu=torch.ones((), requires_grad=True))}, TypeError, "mu|grad|.item()|simulate_mean"),
    ({"times": torch.ones(1, device="meta")}, (TypeError, ValueError), "times|meta"),
]

WIDE = np.zeros((3, 16))
OUTS = [
    (np.zeros((3, 5)), ValueError, "out|(3, 4)|(3, 5)"),
    (np.zeros(12), ValueError, "out|(3, 4)|(12,)"),
    (np.zeros((3, 4), "float32"), ValueError, "out|float64|float32"),
    (np.zeros((3, 4), ">f8"), ValueError, "out|native byte order"),
    (read_only(np.zeros((3, 4))), ValueError, "out|read-only"),
    (WIDE[:, ::4], ValueError, "out|contiguous"),
    (np.zeros((4, 3)).T, ValueError, "out|contiguous"),
    (WIDE[::-1, :4], ValueError, "out|contiguous|do not overlap"),
    (np.lib.stride_tricks.as_strided(np.zeros(16), (3, 4), (8, 8)), ValueError, "out|do not overlap"),
    (np.zeros(97, np.uint8)[1:].view("f8").reshape(3, 4), ValueError, "out|aligned"),
    (masked(np.zeros((3, 4))), TypeError, "out|masked"),
    (torch.zeros(3, 4, dtype=torch.float64), TypeError, "out|times|one kind"),
    ([[0.0] * 4] * 3, TypeError, "out|list"),
]

with warnings.catch_warnings(action="ignore", category=UserWarning):  # torch: these are a prototype
    RAGGED = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])
REDUCTIONS = [
    *(({"x": X.astype(d)}, TypeError, f"x|float32|float64|{d}") for d in ("int64", "bool", "complex64", "float16")),
    *(
        ({"x": torch.ones(2, 3, dtype=getattr(torch, d))}, TypeError, f"x|float32|float64|{d}")
        for d in ("int32", "bool", "complex128", "float16", "bfloat16")
    ),
    ({"x": X.astype(object)}, TypeError, "x|object|float32|float64"),
    ({"x": masked(X)}, TypeError, "x|masked"),
    ({"x": X.tolist()}, TypeError, "x|NumPy array|torch tensor|list"),
    ({"x": torch.ones(2, 2).to_sparse()}, TypeError, "x|sparse|to_dense"),
    *(({"x": np.ones(shape)}, ValueError, f"x|shape {shape}") for shape in ((), (0,), (3, 0), (0, 3))),
    *(({"x": torch.ones(shape)}, ValueError, f"x|shape {shape}") for shape in ((), (0,), (3, 0), (0, 3))),
    ({"lam": np.ones(2)}, ValueError, "lam|(2,)|(3,)"),
    ({"lam": np.ones((3, 1))}, ValueError, "lam|(3, 1)|(3,)"),  # would broadcast to (3, 3)
    ({"lam": np.ones((1, 3))}, ValueError, "lam|(1, 3)|(3,)"),
    ({"x": torch.ones(3, 4), "lam": torch.ones(3, 1)}, ValueError, "lam|(3, 1)|(3,)"),
    ({"x": torch.ones(3, 4), "lam": torch.ones(2)}, ValueError, "lam|(2,)|(3,)"),
    ({"lam": 1j}, TypeError, "lam|complex"),
    ({"lam": None}, TypeError, "lam|NoneType"),
    ({"lam": True}, TypeError, "lam|bool"),
    ({"lam": torch.ones(3)}, TypeError, "lam|NumPy|Tensor"),
    ({"lam": 10**400}, ValueError, "lam|1.8e308|1329 bits"),
    ({"x": torch.ones(3, 4), "lam": -(10**400)}, ValueError, "lam|1.8e308|1329 bits"),
    ({"x": torch.ones(3, 4), "lam": torch.ones(3).to_sparse()}, TypeError, "lam|sparse|to_dense"),
    ({"x": torch.ones(3, 4), "lam": torch.tensor(1.0).to_sparse()}, TypeError, "lam|sparse|to_dense"),
    ({"x": torch.ones(3, 4), "lam": RAGGED}, TypeError, "lam|nested|dense"),
    ({"x": RAGGED}, TypeError, "x|nested|dense"),
    ({"x": torch.ones(3, 4), "index": torch.tensor([0]).to_sparse()}, TypeError, "index|sparse|to_dense"),
    ({"lam": masked(np.ones(3))}, TypeError, "lam|masked"),
    ({"lam": np.ones(3, object)}, TypeError, "lam|object"),
    ({"x": torch.ones(3, 4), "lam": torch.ones(3, dtype=torch.complex64)}, TypeError, "lam|complex64"),
    ({"x": torch.ones(3, 4), "lam": masked(np.ones(3))}, TypeError, "lam|masked"),
    ({"x": torch.ones(3, 4), "lam": torch.ones(3, device="meta")}, ValueError, "lam|cpu|meta"),
    ({"x": torch.ones(3, 4), "lam": torch.ones((), device="meta")}, ValueError, "lam|cpu|meta"),
    ({"x": torch.ones(3, 4), "index": torch.zeros(1, dtype=torch.int64, device="meta")}, ValueError, "index|cpu|meta"),
    ({"index": np.array([0.0])}, TypeError, "index|integers|float64"),
    ({"index": np.array([True, False, True])}, TypeError, "index|integers|bool"),
    ({"index": masked(np.array([0, 1]))}, TypeError, "index|masked"),
    ({"index": np.array([], int)}, ValueError, "index|empty"),
    ({"index": np.array([0, 3])}, IndexError, "index|3|3 rows"),
    ({"index": np.array([-4])}, IndexError, "index|-4|3 rows"),
    ({"x": np.ones(4), "index": np.array([0])}, ValueError, "index|(4,)"),
    ({"x": torch.ones(3, 4), "index": torch.tensor([0.0])}, TypeError, "index|integers|float32"),
    ({"x": torch.ones(3, 4), "index": torch.tensor([0, 3])}, IndexError, "index|3|3 rows"),
]


def refused(call, names, error, words):
    with pytest.raises(error) as caught:
        call(**names)
    for word in words.split("|"):
        assert word in str(caught.value)


@pytest.mark.parametrize(("names", "error", "words"), PROCESSES)
def test_brownian(names, error, words):
    refused(fastlam.Brownian, names, error, words)


@pytest.mark.parametrize(("names", "error", "words"), SIMULATIONS)
def test_simulate(names, error, words):
    refused(simulate, names, error, f"simulate|{words}")


@pytest.mark.parametrize(("out", "error", "words"), OUTS)
def test_simulate_out(out, error, words):
    refused(simulate, {"out": out}, error, f"simulate|{words}")
    assert np.all(np.asarray(out) == 0)  # refused before it was written to


def test_simulate_out_of_torch():
    out = torch.zeros(3, 4, dtype=torch.float64)
    refused(simulate, {"out": out.numpy(), "times": torch.from_numpy(TIMES)}, TypeError, "out|times|one kind")
    negated = {"out": torch._neg_view(out), "times": torch.from_numpy(TIMES)}
    refused(simulate, negated, ValueError, "simulate: out|negates")
    refused(simulate, negated | {"out": out.to("meta")}, ValueError, "simulate: out|meta")
    assert not out.any()
    refused(simulate, {"out": out.requires_grad_(), "times": torch.from_numpy(TIMES)}, ValueError, "out|grad|detach")


@pytest.mark.parametrize("reduce", [fastlam.mean_square, fastlam.mean_square_value_and_grad])
@pytest.mark.parametrize(("names", "error", "words"), REDUCTIONS)
def test_mean_square(reduce, names, error, words):
    refused(reduce, {"x": X, **names}, error, f"{reduce.__name__}: |{words}")


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        ({"x": torch.ones(3, 4, dtype=torch.int64)}, TypeError, "x|int64"),
        ({"x": torch.ones(3, 0)}, ValueError, "x|(3, 0)"),
        ({"x": torch.ones(3, 4), "index": torch.tensor([0.0])}, TypeError, "index|integers|float32"),
        ({"x": torch.ones(3, 4), "index": [0.0]}, TypeError, "index|integers|float64"),
        ({"x": X}, TypeError, "x|tensor|NumPy"),
    ],
)
def test_lambda_model(names, error, words):
    refused(fastlam.LambdaModel(), names, error, f"LambdaModel: |{words}")


@pytest.mark.parametrize("lam", [[1.0], "1", None, True, 1j])
def test_lambda_model_of(lam):
    refused(fastlam.LambdaModel, {"lam": lam}, TypeError, "LambdaModel: lam|number")


NO_ARRAYS = [
    (torch.ones(2, dtype=torch.int64, device="meta"), ValueError, "meta"),
    (torch.ones(2, dtype=torch.int64).to_sparse(), TypeError, "layout|to_dense"),
    (torch.ones(2, dtype=torch.bfloat16), TypeError, "bfloat16"),
]


@pytest.mark.parametrize(("tensor", "error", "words"), NO_ARRAYS)
def test_tensors_that_are_no_arrays(tensor, error, words):
    refused(fastlam.mean_square, {"x": X, "index": tensor}, error, f"mean_square: index|{words}")
    k = tensor if tensor.dtype == torch.bfloat16 else tensor.double()
    refused(fastlam.fit, {"x": torch.ones(2, 4), "k": k}, error, f"fit: k|{words}")


def test_dtype_that_is_a_tensor():
    refused(simulate, {"dtype": torch.ones(2)}, TypeError, "simulate: dtype|float32 or float64")


def test_parameter_without_a_value():
    refused(simulate, {"process": fastlam.Brownian(torch.ones((), device="meta"))}, ValueError, "simulate|mu|meta")


def test_scheme_that_is_no_name():
    names = {"drift": "0", "diffusion": "1", "parameters": {"x0": 0.0}, "scheme": np.ones(2)}
    refused(fastlam.Diffusion, names, ValueError, "Diffusion: scheme|euler")


def test_absurd_size_is_refused_before_it_is_made():
    refused(simulate, {"n_paths": 2**60}, MemoryError, "simulate|GB|available|first_path")


def test_memory_is_compared_with_what_is_available(monkeypatch):
    monkeypatch.setattr(arrays, "available_memory", lambda: 96)  # 3 times, 4 paths of 8 bytes
    assert simulate().nbytes == 96
    refused(simulate, {"n_paths": 5}, MemoryError, "simulate|available")
