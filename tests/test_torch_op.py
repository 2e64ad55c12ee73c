"""The op under mean_square: as torch's own checks want it, alone, and where tensors have no memory."""

import subprocess
import sys

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch_cases import INDEX, TRANSFORMS, X, fused, leaves, normals, plain, same

# torch's own forward-mode AD still goes through torch.jit, on its first use in a process.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.mark.parametrize("index", [None, INDEX], ids=["all", "index"])
def test_opcheck(index):
    picked = () if index is None else (index,)
    weight = normals(len(X) if index is None else len(index))
    torch.library.opcheck(torch.ops.fastlam.mean_square.default, (X, *picked))
    torch.library.opcheck(torch.ops.fastlam.mean_square_backward.default, (X, weight, *picked))


FORWARD, BACKWARD = torch.ops.fastlam.mean_square, torch.ops.fastlam.mean_square_backward
WHOLE, NOTHING, ROW = torch.ones(3, 4, dtype=torch.int64), torch.ones(3, 0), torch.ones(4)
OUTSIDE, ZERO = torch.tensor([3]), torch.tensor([0])
WRONG = [
    (FORWARD, (WHOLE,), TypeError, "mean_square: x has dtype int64"),
    (FORWARD, (NOTHING,), ValueError, "mean_square: x must have at least one element"),
    (FORWARD, (torch.tensor(1.0),), ValueError, "mean_square: x must have at least one element and one axis"),
    (FORWARD, (X, OUTSIDE), IndexError, "mean_square: index holds 3"),
    (FORWARD, (X, ZERO.double()), TypeError, "mean_square: index must hold integers"),
    (FORWARD, (X, ZERO[:0]), ValueError, "mean_square: index is empty"),
    (FORWARD, (ROW, ZERO), ValueError, "mean_square: index picks rows"),
    (BACKWARD, (WHOLE, torch.ones(3)), TypeError, "mean_square_backward: x has dtype int64"),
    (BACKWARD, (NOTHING, torch.ones(3)), ValueError, "mean_square_backward: x must have at least one element"),
    (BACKWARD, (X, X[:1, 0]), ValueError, r"mean_square_backward: weight must have shape \(3,\), but has \(1,\)"),
    (BACKWARD, (X, X[:, 0], INDEX), ValueError, r"weight must have shape \(4,\), but has \(3,\)"),
    (BACKWARD, (X, X), ValueError, r"weight must have shape \(3,\), but has \(3, 4\)"),
    (BACKWARD, (X, WHOLE[:, 0]), TypeError, "mean_square_backward: weight has dtype int64"),
    (BACKWARD, (X, X[0, :1], OUTSIDE), IndexError, "mean_square_backward: index holds 3"),
    (BACKWARD, (X, X[0, :1], ZERO.double()), TypeError, "mean_square_backward: index must hold integers"),
]


@pytest.mark.parametrize(("op", "arguments", "error", "message"), WRONG)
def test_bad_input_of_an_op(op, arguments, error, message):
    """No less checked than the public functions: memory outside of x and weight is not read."""
    with pytest.raises(error, match=message):
        op(*arguments)


@pytest.mark.parametrize("index", [None, INDEX], ids=["all", "index"])
def test_backward_of_the_op_alone(index):
    (x,) = leaves(X)
    assert gradcheck(torch.ops.fastlam.mean_square, (x, index))
    assert gradgradcheck(torch.ops.fastlam.mean_square, (x, index))


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
