"""mean_square under torch: autograd, torch.func, torch.compile, and LambdaModel, against the same formula in torch."""

import copy
import inspect
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import func
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn.functional import mse_loss
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

import fastlam

INDEX = torch.tensor([0, 2, 2, -1])
# Both sides add up to 70 terms of order one in some order: a hundred roundings at most, and usually one or two.
TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-14, "atol": 1e-14}}
# torch's own forward-mode AD still goes through torch.jit, on its first use in a process.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def plain(x, lam, index=None):
    return lam * ((x if index is None else x[index]) ** 2).mean(-1)


def fused(x, lam, index=None):
    return fastlam.mean_square(x, lam, index=index)


def normals(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def leaves(*tensors):
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def same(got, want):
    """Equal trees of tensors, to the tolerance of their dtype."""
    got, want = tree_leaves(got), tree_leaves(want)
    assert len(got) == len(want) > 0
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[b.dtype], equal_nan=True)


X, LAM = normals(3, 4), torch.tensor(0.3, dtype=torch.float64)
LAMS = {"()": LAM, "(1,)": LAM.reshape(1), "(m,)": normals(3, seed=1)}
INDEXED_LAMS = {"()": LAM, "(1,)": LAM.reshape(1), "(k,)": normals(4, seed=1)}
CASES = [(None, lam) for lam in LAMS.values()] + [(INDEX, lam) for lam in INDEXED_LAMS.values()]
CASE = pytest.mark.parametrize(("index", "lam"), CASES, ids=[*LAMS, *(f"{name} index" for name in INDEXED_LAMS)])


@CASE
def test_gradcheck(index, lam):
    def function(x, lam):
        return fused(x, lam, index)

    inputs = leaves(X, lam)
    forward = {"check_forward_ad": True, "check_batched_forward_grad": True}
    assert gradcheck(function, inputs, **forward, check_batched_grad=True)
    assert gradgradcheck(function, inputs, check_fwd_over_rev=True, check_rev_over_rev=True, check_batched_grad=True)


@CASE
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("needs", [(True, False), (False, True), (True, True)], ids=["x", "lam", "both"])
def test_gradients_of_what_needs_them(index, lam, dtype, needs):
    gradients = []
    for function in (fused, plain):
        inputs = [
            tensor.to(dtype, copy=True).requires_grad_(need) for tensor, need in zip((X, lam), needs, strict=True)
        ]
        function(*[tensor.clone() for tensor in inputs], index).square().sum().backward()
        assert [tensor.grad is not None for tensor in inputs] == list(needs)
        gradients.append([tensor.grad for tensor in inputs if tensor.grad is not None])
    same(*gradients)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_higher_derivatives(dtype):
    """d2/dx2 = 2 lam/n, d2/dxdlam = 2x/n, d3/dx2dlam = 2/n, and what is zero exactly so, in closed form."""
    x, lam = leaves(normals(5, dtype=dtype), LAM.to(dtype))
    value = fused(x, lam).squeeze()

    def gradient(y, *of):
        return torch.autograd.grad(y, of, create_graph=True, materialize_grads=True)

    in_x, in_lam = gradient(value, x, lam)
    same((in_x, in_lam), (2 * lam / 5 * x, x.square().mean()))
    in_xx, in_x_lam = gradient(in_x[2], x, lam)
    same((in_xx, in_x_lam), (2 * lam / 5 * torch.eye(5, dtype=dtype)[2], 2 * x[2] / 5))
    in_lam_x, in_lam_lam = gradient(in_lam, x, lam)
    same(in_lam_x, 2 * x / 5)
    in_xxx, in_xx_lam = gradient(in_xx[2], x, lam)
    same(in_xx_lam, torch.tensor(0.4, dtype=dtype))
    assert not in_lam_lam
    assert not in_xxx.any()


@pytest.mark.parametrize("index", [None, INDEX], ids=["all", "index"])
def test_forward_over_backward_of_a_graph_made_before(index):
    """A tangent that enters through the output's gradient goes through, or is refused: it is not lost in silence."""
    tangents = []
    for function in (fused, plain):
        (x,) = leaves(X)
        value = function(x, 2.0, index)
        with forward_ad.dual_level():
            weight = forward_ad.make_dual(torch.ones_like(value), torch.arange(1.0, 1 + len(value), dtype=value.dtype))
            (gradient,) = torch.autograd.grad(value, x, weight)
            tangents.append(forward_ad.unpack_dual(gradient).tangent)
    same(*tangents)


@pytest.mark.parametrize("vectorize", [False, True])
def test_functional_jacobian_and_hessian(vectorize):
    for transform in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian):
        got, want = (
            transform(lambda x, lam: f(x, lam, INDEX).square().sum(), (X, LAM), vectorize=vectorize)  # noqa: B023
            for f in (fused, plain)
        )
        same(got, want)


def test_graphs_that_are_not_wanted():
    (x, lam) = leaves(X, LAM)
    with torch.no_grad():
        assert not fused(x, lam).requires_grad
    with torch.inference_mode():
        assert fused(x, lam).is_inference()
        frozen = X.clone()
    assert not fused(x.detach(), lam.detach()).requires_grad
    fused(frozen, lam).sum().backward()  # lam still learns from a tensor that inference made
    same(lam.grad, X.square().mean(-1).sum())


def test_autocast_leaves_it_alone():
    x, lam = leaves(X.float(), LAM.float())
    outside = fused(x, lam)
    with torch.autocast("cpu", torch.bfloat16):
        inside = fused(x, lam)
        assert torch.equal(inside, outside)
        torch.testing.assert_close(func.jvp(fused, (x, lam), (x, lam))[1], 3 * outside)
    assert inside.dtype == torch.float32


@pytest.mark.parametrize("which", ["x", "index"])
def test_what_changed_before_backward_raises(which):
    (x,), index = leaves(X), INDEX.clone()
    value = fused(x, 1.0, index).sum()
    with torch.no_grad():
        (x if which == "x" else index).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@pytest.mark.parametrize("index", [None, INDEX], ids=["all", "index"])
def test_backward_from_several_threads(index):
    x, lam = leaves(normals(16, 40_000), LAM)  # enough for our own threads to join
    value = fused(x, lam, index).sum()

    def gradients(_):
        return torch.autograd.grad(value, (x, lam), retain_graph=True)

    want = gradients(None)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(gradients, range(16)):
            assert all(map(torch.equal, got, want))


def test_part_of_a_larger_model():
    """With x = net(noise), with and without checkpointing: every weight's gradient."""
    net, lam = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 20)).double(), LAM.clone()
    lam.requires_grad_()

    def gradients(reduce):
        loss = mse_loss(reduce(net(normals(5, 6)), lam), normals(5, seed=3))
        return torch.autograd.grad(loss, [*net.parameters(), lam])

    want = gradients(plain)
    same(gradients(fused), want)
    same(gradients(lambda x, lam: checkpoint(fused, x, lam, use_reentrant=False)), want)


BATCH = normals(3, 2, 4, seed=2)
INDICES = torch.tensor([[0, 1], [2, 2]])


def total(f, index=None):
    return lambda x, lam: f(x, lam, index).square().sum()


TRANSFORMS = {
    "grad": lambda f: func.grad(total(f), (0, 1))(X, LAM),
    "grad index": lambda f: func.grad(total(f, INDEX), (0, 1))(X, LAM),
    "grad of grad": lambda f: func.grad(lambda x: func.grad(total(f))(x, LAM).square().sum())(X),
    "grad in lam of grad in x": lambda f: func.grad(lambda lam: func.grad(total(f))(X, lam).square().sum())(LAM),
    "vmap x": lambda f: func.vmap(f, (1, None))(BATCH, LAM),
    "vmap x last": lambda f: func.vmap(f, (-1, None), -1)(BATCH, LAM),
    "vmap x index": lambda f: func.vmap(lambda x: f(x, LAM, INDEX), 1)(BATCH),
    "vmap rows": lambda f: func.vmap(f, (0, None))(X, LAM),
    "vmap lam": lambda f: func.vmap(f, (None, 0))(X, LAMS["(m,)"]),
    "vmap index": lambda f: func.vmap(f, (None, None, 0))(X, LAM, INDICES),
    "vmap index last": lambda f: func.vmap(f, (None, None, 1))(X, LAM, INDICES),
    "vmap x and index": lambda f: func.vmap(f, (1, None, 0))(BATCH, LAM, INDICES),
    "vmap all": lambda f: func.vmap(f, (1, 0, 0))(BATCH, LAMS["(m,)"][:2], INDICES),
    "vmap of vmap": lambda f: func.vmap(func.vmap(f, (None, None, 0)), (0, 0, None))(BATCH, LAMS["(m,)"], INDICES % 2),
    "vmap of grad": lambda f: func.vmap(func.grad(total(f), (0, 1)), (1, None))(BATCH, LAM),
    "vmap of grad index": lambda f: func.vmap(func.grad(lambda x, i: f(x, LAM, i).sum()), (None, 0))(X, INDICES),
    "jvp": lambda f: func.jvp(f, (X, LAM), (X + 1, LAM + 1)),
    "jvp index": lambda f: func.jvp(lambda x: f(x, LAM, INDEX), (X,), (X + 1,)),
    "jvp of grad": lambda f: func.jvp(func.grad(total(f, INDEX), (0, 1)), (X, LAM), (X + 1, LAM + 1)),
    "grad of jvp": lambda f: func.grad(lambda x: func.jvp(total(f), (x, LAM), (X + 1, LAM))[1])(X),
    "vjp": lambda f: func.vjp(f, X, LAM)[1](LAMS["(m,)"]),
    "jacrev": lambda f: func.jacrev(f, (0, 1))(X, LAM, INDEX),
    "jacfwd": lambda f: func.jacfwd(f, (0, 1))(X, LAM, INDEX),
    "hessian": lambda f: func.hessian(total(f, INDEX), (0, 1))(X, LAM),
    "third": lambda f: func.jacfwd(func.hessian(total(f)))(X[:2], LAM),
    "autograd of func": lambda f: torch.autograd.grad(func.grad(total(f))(*(i := leaves(X, LAM))).square().sum(), i),
}
COMPILED = ["grad index", "vmap x", "vmap index", "vmap of grad", "jvp", "hessian"]


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transform(transform):
    same(transform(fused), transform(plain))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("kind", [torch.as_tensor, lambda index: index], ids=["torch", "numpy"])
def test_index_dtypes(dtype, kind):
    """Positions, though torch reads a uint8 index as a mask: they stay so in every derivative."""
    index = kind(np.array([0, 1, 0], dtype))
    second = lambda f, i: func.grad(lambda x: func.grad(total(f, i))(x, LAM).square().sum())(X)  # noqa: E731
    same(second(fused, index), second(plain, torch.tensor([0, 1, 0])))
    (x,) = leaves(X)
    (graph,) = torch.autograd.grad(total(fused, index)(x, LAM), x, create_graph=True)
    same(graph, func.grad(total(plain, torch.tensor([0, 1, 0])))(X, LAM))


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize(
    "transform",
    [
        lambda f, x: func.vmap(f, (0, None))(x, LAM),
        lambda f, x: func.grad(lambda x: f(x, LAM).sum())(x),
        lambda f, x: func.jvp(lambda x: f(x, LAM), (x,), (X,)),
    ],
    ids=["vmap", "grad", "jvp"],
)
def test_odd_values_under_transforms(transform, odd):
    """NaN, infinity and overflow come out as they do from torch, in value and derivative."""
    x = X.clone()
    x[1, 1] = odd
    same(transform(fused, x), transform(plain, x))


def test_squares_beyond_float32_under_transforms():
    """A square of 4e38 is no float32, its mean over 1000 paths is: eager and transformed answers are the same."""
    x = torch.zeros(1, 1000)
    x[0, 3] = 2e19
    want = fused(x, 2.0)
    assert want.isfinite()
    assert torch.equal(func.vmap(fused, (0, None))(x, 2.0), want)
    value, tangent = func.jvp(lambda x: fused(x, 2.0), (x,), (torch.ones_like(x),))
    same((value, tangent), (want, 4 * x.mean(-1)))


def test_bad_index_under_transforms():
    for index in (torch.tensor([3]), torch.tensor([-4])):
        with pytest.raises(IndexError, match="but x has 3 rows"):
            func.grad(total(fused, index))(X, LAM)
        with pytest.raises(IndexError, match="but x has 3 rows"):
            func.vmap(fused, (None, None, 0))(X, LAM, torch.stack([index, index]))


def test_functional_call():
    model = fastlam.LambdaModel(dtype=torch.float64)
    loss = lambda lam, k: (func.functional_call(model, {"lam": lam}, (X,)) - k).square().sum()  # noqa: E731
    want = func.grad(lambda lam: (plain(X, lam) - 1).square().sum())(LAM)
    same(func.grad(loss)(LAM, torch.ones(3)), want)
    assert model.lam.item() == 0


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


@pytest.mark.parametrize("index", [None, INDEX], ids=["all", "index"])
def test_opcheck(index):
    picked = () if index is None else (index,)
    weight = normals(len(X) if index is None else len(index))
    torch.library.opcheck(torch.ops.fastlam.mean_square.default, (X, *picked))
    torch.library.opcheck(torch.ops.fastlam.mean_square_backward.default, (X, weight, *picked))


@pytest.mark.parametrize("transform", ["grad", "jvp", "autograd of func", "vmap x"])
def test_the_op_alone_is_right_or_raises(transform):
    """Not a zero derivative: a caller of torch.ops.fastlam.mean_square may not know that it carries none."""
    try:
        got = TRANSFORMS[transform](lambda x, lam, index=None: lam * torch.ops.fastlam.mean_square(x, index))
    except (RuntimeError, NotImplementedError):
        return
    same(got, TRANSFORMS[transform](plain))


def test_meta():
    """Shapes without values; what is elsewhere than x is named."""
    elsewhere = torch.zeros(3, dtype=torch.int64, device="meta")
    for name, arguments in {"lam": (elsewhere,), "index": (1.0, elsewhere)}.items():
        with pytest.raises(ValueError, match=f"x is on cpu, but {name} is on meta"):
            fused(X, *arguments)
    for device in ("meta", torch.device("meta")):
        x, lam = torch.empty(6, 3, 50, device=device, requires_grad=True), torch.tensor(0.3, requires_grad=True)
        value = fused(x, lam.to(device), torch.zeros(2, 2, dtype=torch.int64, device=device))
        assert (value.shape, value.device.type) == ((2, 2, 3), "meta")
        assert torch.autograd.grad(value.sum(), x)[0].shape == (6, 3, 50)


WITHOUT_MEMORY = {
    "fake": "with Fake(): y = fastlam.mean_square(torch.empty(3, 4), 2.0)",
    "fake, backward": "with Fake(): x = torch.empty(3, 4, requires_grad=True); fastlam.mean_square(x)[0].backward()\n"
    "y = x.grad[:, 0]",
    "fake, its mode left": "with Fake(): x = torch.empty(3, 4)\ny = fastlam.mean_square(x, 2.0)",
    "fake, value and grad": "with Fake(): y = fastlam.mean_square_value_and_grad(torch.empty(3, 4), 2.0)[0]",
    "meta, value and grad": "y = fastlam.mean_square_value_and_grad(torch.empty(3, 4, device='meta'), 2.0)[0]",
    "zero tensor": "y = fastlam.mean_square(torch._efficientzerotensor((3, 4)), 2.0); assert not y.any()",
    "subclass": "y = fastlam.mean_square(TwoTensor(torch.ones(3, 4), torch.ones(3, 4)), 2.0); assert (y.a == 2).all()",
}
IN_CHILDREN = """
import os, sys, torch, fastlam
from torch._subclasses.fake_tensor import FakeTensorMode as Fake
from torch.testing._internal.two_tensor import TwoTensor
for code in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        exec(code)
        os._exit(0 if y.shape == (3,) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def exit_codes():
    """Of a process for each case: reading where there is no memory would end this one."""
    codes = WITHOUT_MEMORY.values()
    done = subprocess.run([sys.executable, "-c", IN_CHILDREN, *codes], capture_output=True, text=True, check=True)
    return dict(zip(WITHOUT_MEMORY, map(int, done.stdout.split()), strict=True))


@pytest.mark.parametrize("name", WITHOUT_MEMORY)
def test_tensors_whose_memory_is_elsewhere(name, exit_codes):
    """Their data_ptr is 0."""
    assert exit_codes[name] == 0


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
