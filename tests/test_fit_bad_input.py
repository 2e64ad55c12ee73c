"""fit refuses what it cannot train on, and says which argument, what came and what is accepted."""

import math

import numpy as np
import pytest
import torch

import fastlam

X = np.random.default_rng(0).standard_normal((200, 300)) * np.sqrt(np.arange(1, 201) / 50)[:, None]
K = fastlam.mean_square(X, 0.25)


def changed(array, position, value):
    array = array.copy()
    array[position] = value
    return array


BAD = [
    (TypeError, "fit: x must be a NumPy array, a torch tensor or a CuPy array", {"x": X.tolist()}),
    (TypeError, "x has dtype int64, but must be float32 or float64", {"x": X.astype(int)}),
    (TypeError, "masked", {"x": np.ma.array(X)}),
    (ValueError, r"x must have shape \(m, n\), but has \(200,\)", {"x": X[:, 0]}),
    (ValueError, r"x must have shape \(m, n\), but has \(2, 100, 300\)", {"x": X.reshape(2, 100, 300)}),
    (ValueError, "at least one element", {"x": X[:, :0]}),
    (ValueError, "row 7 has mean square nan", {"x": changed(X, (7, 3), np.nan)}),
    (ValueError, "row 7 has mean square inf", {"x": changed(X, (7, 3), -np.inf)}),
    (ValueError, "x is zero at every training time", {"x": 0 * X}),
    (TypeError, "fit: k must be a NumPy array, a torch tensor or a CuPy array", {"k": K.tolist()}),
    (TypeError, "k has dtype bool, but must be float32, float64 or of integers", {"k": K > 1}),
    (TypeError, "k has dtype bool", {"k": torch.as_tensor(K > 1)}),
    (TypeError, "k has dtype complex128", {"k": K + 0j}),
    (TypeError, "k has dtype float16", {"k": K.astype(np.float16)}),
    (ValueError, r"k must have shape \(200,\), one target for each row of x, but has \(199,\)", {"k": K[1:]}),
    (ValueError, r"k must have shape \(200,\)", {"k": K[:, None]}),
    (ValueError, r"k\[5\] = nan", {"k": changed(K, 5, np.nan)}),
    (ValueError, r"k\[0\] = inf", {"k": changed(K, 0, np.inf)}),
    (ValueError, "optimizer must be one of .*adam.*sgd.*, but is 'optimizer'", {"optimizer": "optimizer"}),
    (TypeError, "optimizer must be a torch.optim class or its name, but is 3", {"optimizer": 3}),
    (ValueError, "optimizer must be one of .*adam.*, but is Optimizer", {"optimizer": torch.optim.Optimizer}),
    (ValueError, "optimizer must be one of .*adam.*, but is SparseAdam", {"optimizer": torch.optim.SparseAdam}),
    (
        TypeError,
        r"optimizer\(\[lam\], lr=lr\) must give a torch.optim.Optimizer, but gave None",
        {"optimizer": lambda parameters, lr: None},
    ),
    (TypeError, "progress must be callable, but is 5", {"progress": 5}),
    (ValueError, "lr must be finite and above 0.0, but is 0", {"lr": 0}),
    (ValueError, "lr must be finite and above 0.0, but is -1.0", {"lr": -1.0}),
    (ValueError, "lr must be finite and above 0.0, but is nan", {"lr": math.nan}),
    (TypeError, "lr must be a number, but is 'fast'", {"lr": "fast"}),
    (TypeError, "lr must be a number, but is True", {"lr": True}),
    (ValueError, "lam0 must be finite, but is inf", {"lam0": math.inf}),
    (TypeError, "lam0 must be a number, but is None", {"lam0": None}),
    (ValueError, "epochs must be at least 1", {"epochs": 0}),
    (TypeError, "epochs must be an integer, but is 1.5", {"epochs": 1.5}),
    (ValueError, "batch_size must be at least 1", {"batch_size": 0}),
    (TypeError, "batch_size must be an integer", {"batch_size": 32.0}),
    (ValueError, "holdout must be at least 0 and below 1, but is 1.0", {"holdout": 1.0}),
    (ValueError, "holdout must be at least 0 and below 1, but is -0.1", {"holdout": -0.1}),
    (ValueError, "holdout must be finite, but is nan", {"holdout": math.nan}),
    (TypeError, "holdout must be a number, but is True", {"holdout": True}),
    (TypeError, "seed must be an integer, but is True", {"seed": True}),
    (TypeError, "seed must be an integer, but is None", {"seed": None}),
    (ValueError, "seed must be at least 0", {"seed": -1}),
    (ValueError, r"below 2\*\*64", {"seed": 2**64}),
]


@pytest.mark.parametrize(("error", "message", "arguments"), BAD, ids=[message for _, message, _ in BAD])
def test_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        fastlam.fit(**{"x": X, "k": K, "epochs": 1} | arguments)


@pytest.mark.parametrize(("error", "message", "arguments"), [row for row in BAD if not {"x", "k"} & set(row[2])])
def test_bad_training_is_refused_before_x_is_read(error, message, arguments):
    """A row that is not finite is seen by whoever reads it."""
    with pytest.raises(error, match=message):
        fastlam.fit(**{"x": changed(X, (7, 3), np.nan), "k": K, "epochs": 1} | arguments)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9 has none")
def test_muon_is_for_matrices():
    with pytest.raises(ValueError, match=r"fit: optimizer must be one of .*adam.*, but is Muon"):
        fastlam.fit(X, K, optimizer=torch.optim.Muon)
