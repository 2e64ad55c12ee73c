"""LambdaModel, and the training loop that it is made for."""

import copy
import inspect
import pickle

import pytest
import torch
from torch.nn.functional import mse_loss
from torch_cases import INDEX, X, fused, normals

import fastlam

# Where an optimizer's units are not those of lam: the gradient's, or (Adafactor) the share of lam's size.
RATES = {"SGD": 0.3, "ASGD": 0.3, "LBFGS": 1.0, "Adadelta": 1.0, "Adagrad": 0.2, "Adafactor": 1.0}
# Muon takes matrices, SparseAdam sparse gradients.
OPTIMIZERS = [
    name for name, value in vars(torch.optim).items()
    if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
    and name not in ("Optimizer", "Muon", "SparseAdam")
]  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_lambda_model_trains(name):
    x = normals(8, 100, dtype=torch.float32)
    model = fastlam.LambdaModel()
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=RATES.get(name, 0.01))

    def closure():
        optimizer.zero_grad()
        loss = mse_loss(model(x), fastlam.mean_square(x, 0.25))
        loss.backward()
        return loss

    for _ in range(400):
        optimizer.step(closure)
    assert abs(model.lam.item() - 0.25) < 0.01  # a fixed step of 0.01 may still swing about the answer


def test_lambda_model_is_a_module():
    model = fastlam.LambdaModel(0.5, dtype=torch.float64)
    assert [(name, p.shape, p.dtype) for name, p in model.named_parameters()] == [("lam", (), torch.float64)]
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(X), model(X))
        assert twin.lam is not model.lam
    other = fastlam.LambdaModel(dtype=torch.float64)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(X, INDEX), fused(X, model.lam, INDEX))
    assert fastlam.LambdaModel().float().lam.dtype == torch.float32


def test_the_training_loop_of_the_design():
    times = torch.arange(1, 101) / 25
    x = fastlam.simulate(fastlam.Brownian(mu=0.05, sigma=0.2), times, n_paths=500, seed=7)
    k = fastlam.mean_square(x, lam=0.25)
    torch.manual_seed(0)
    lam = torch.nn.Parameter(torch.tensor(0.0))
    optimizer = torch.optim.Adam([lam], lr=1e-2)
    for _ in range(200):
        for j in torch.randperm(len(times)).split(32):
            optimizer.zero_grad()
            loss = mse_loss(fastlam.mean_square(x, lam, index=j), k[j])
            loss.backward()
            optimizer.step()
    assert lam.item() == pytest.approx(0.25, abs=1e-6)  # a few roundings of float32: k is exact, so no noise is left
