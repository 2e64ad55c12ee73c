"""mean_square under torch.compile, without graph breaks, against the same formula in torch; simulate, with one."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.nn.functional import mse_loss
from torch_cases import INDEX, LAM, TRANSFORMS, X, fused, leaves, normals, plain, same

import fastlam

# torch's own forward-mode AD still goes through torch.jit, on its first use in a process.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
COMPILED = ["grad index", "vmap x", "vmap index", "vmap of grad", "jvp", "hessian"]


@pytest.fixture
def compiled():
    """torch.compile without graph breaks, and without what other tests compiled."""
    torch._dynamo.reset()
    yield lambda f, **options: torch.compile(f, fullgraph=True, **{"backend": "aot_eager"} | options)
    torch._dynamo.reset()


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("index", [None, INDEX], ids=["all", "index"])
def test_compile(compiled, index, dynamic):
    function = compiled(fused, dynamic=dynamic)
    for shape in ((3, 50), (5, 70), (6, 71)):
        gradients = []
        for f in (function, plain):
            x, lam = leaves(normals(*shape), LAM)
            value = f(x, lam, index)
            gradients.append((value, torch.autograd.grad(value.square().sum(), (x, lam))))
        same(*gradients)


@pytest.mark.parametrize("index", [[0, -1, -1], 2, np.array([0, 1, 1]), np.array([0, 1], np.int32)], ids=repr)
def test_compile_with_another_kind_of_index(compiled, index):
    (x,) = leaves(X)
    function = compiled(lambda x: fused(x, LAM, index))
    same(torch.autograd.grad(function(x).sum(), x), torch.autograd.grad(fused(x, LAM, index).sum(), x))


@pytest.mark.parametrize("lam", [2, 0.5, np.float64(0.5), np.float32(0.5), np.array([0.5, 1, 2])], ids=repr)
def test_compile_with_another_kind_of_lam(compiled, lam):
    same(compiled(lambda x: fused(x, lam))(X), fused(X, lam))


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("kind", [float, int, np.float64, np.float32, np.int64, np.array])
def test_compile_with_lam_as_an_argument(compiled, kind, dynamic):
    """Its value is not baked in, whatever kind of number it is."""
    function = compiled(fused, dynamic=dynamic)
    for lam in (2.0, 3.0, 5.0):
        same(function(X, kind(lam)), fused(X, kind(lam)))


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_transform(compiled, name):
    transform = TRANSFORMS[name]
    same(compiled(lambda: transform(fused))(), transform(plain))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # Inductor's own
def test_inductor(compiled):
    """A whole training step's loss and gradients through generated code."""

    def step(f):
        x, lam = leaves(normals(9, 50), LAM)
        return torch.autograd.grad(mse_loss(f(x.sin(), lam.exp(), INDEX), normals(4, seed=1)), (x, lam))

    same(step(compiled(fused, backend="inductor")), step(plain))


def normals_of(times):
    return fastlam.simulate(fastlam.Brownian(), times, n_paths=3, seed=1)


def test_simulate_breaks_the_graph():
    """The graphs before and after it are compiled, once; the paths between them are the same bits."""
    torch._dynamo.reset()
    graphs = CompileCounter()
    function = torch.compile(lambda times: normals_of(times * 2).sin(), backend=graphs)
    for times in (torch.arange(1.0, 6.0), torch.arange(2.0, 7.0)):
        assert torch.equal(function(times), normals_of(times * 2).sin())
    assert graphs.frame_count == 2
    with pytest.raises(ValueError, match="simulate: times must be strictly increasing"):
        function(times.flip(0))
    torch._dynamo.reset()


def test_simulate_in_a_full_graph(compiled):
    with pytest.raises(
        torch._dynamo.exc.Unsupported, match=r"(?s)fastlam\.simulate\(.*fullgraph=True.*call it outside"
    ):
        compiled(normals_of)(torch.ones(1))


def test_simulate_is_as_it_was_written():
    assert list(inspect.signature(fastlam.simulate).parameters)[:4] == ["process", "times", "n_paths", "seed"]
    assert "Strictly increasing" in fastlam.simulate.__doc__


def test_simulate_does_not_load_the_compiler():
    """Which takes a second."""
    code = """
import sys, numpy, fastlam
fastlam.simulate(fastlam.Brownian(), numpy.ones(1), 1, seed=0)
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
