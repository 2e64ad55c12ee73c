"""mean: of a polynomial and of a formula over rows, against NumPy and plain torch, in value and in every derivative."""

import copy
import pickle

import numpy as np
import pytest
import sympy
import torch
from numpy_cases import DTYPE, KIND, bits, normals
from torch import func
from torch.autograd import gradcheck
from torch_cases import INDEX, LAM, TRANSFORMS, X, leaves, plain, same

import fastlam

# torch's own forward-mode AD still goes through torch.jit, on its first use in a process.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

# f, and the same in NumPy. Tolerances below: f is rounded some 10 times, a sum of order one 25 times at most, each
# time by 1.1e-16.
FUNCTIONALS = [
    (fastlam.Polynomial([0.5, -0.2, 1.0], center=0.1), lambda x: 0.5 - 0.2 * (x - 0.1) + (x - 0.1) ** 2),
    (fastlam.Polynomial([2.0]), lambda x: np.full_like(x, 2)),
    (fastlam.Functional("max(x - strike, 0)", {"strike": 0.2}), lambda x: np.maximum(x - 0.2, 0)),
    (fastlam.Functional("exp(a * x) + sin(x)", {"a": 0.5}), lambda x: np.exp(0.5 * x) + np.sin(x)),
    (fastlam.Functional(sympy.Symbol("x") ** 4), lambda x: x**4),
    (fastlam.Functional(3), lambda x: np.full_like(x, 3)),
]
EACH = pytest.mark.parametrize(
    ("functional", "f"), [pytest.param(*pair, id=repr(pair[0])[:30]) for pair in FUNCTIONALS]
)


@KIND
@DTYPE
@EACH
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 1025), (2, 3, 4), (2, 5000)])
def test_value(functional, f, shape, dtype, kind):
    x = normals(*shape, dtype=dtype)
    got = fastlam.mean(functional, kind(x))
    assert type(got) is torch.Tensor or isinstance(got, (np.ndarray, np.floating))
    want = f(x.astype(np.float64)).mean(-1)  # evaluated and accumulated in float64
    got = np.asarray(got)
    assert (got.dtype, got.shape) == (np.dtype(dtype), shape[:-1])
    np.testing.assert_allclose(got, want, rtol=1e-14 if dtype == "float64" else 6e-8, atol=1e-15)


@KIND
@EACH
def test_index(functional, f, kind):
    x, index = normals(4, 3, 700), np.array([[3, 0], [-1, 3]])
    whole = fastlam.mean(functional, kind(x))
    assert bits(fastlam.mean(functional, kind(x), index=kind(index))) == bits(np.asarray(whole)[index])


@pytest.mark.parametrize("view", [lambda x: x[::-2, 1:], lambda x: x[:, ::3], lambda x: x.T, lambda x: x[:, :1]])
def test_layouts(view):
    functional, x = FUNCTIONALS[0][0], normals(6, 30)
    want = fastlam.mean(functional, np.ascontiguousarray(view(x)))
    assert bits(fastlam.mean(functional, view(x))) == bits(want)
    swapped = fastlam.mean(functional, view(x).astype(">f8"))
    assert swapped.dtype == want.dtype  # native: the answer is new
    assert bits(swapped) == bits(want)
    tensor = torch.from_numpy(np.ascontiguousarray(view(x)))
    assert bits(fastlam.mean(functional, tensor.T.contiguous().T)) == bits(want)
    wide = torch.tensor([[1.5], [0.5]]).expand(2, 40)
    assert bits(fastlam.mean(functional, wide)) == bits(fastlam.mean(functional, wide.contiguous()))


def test_bits_for_any_number_of_threads(set_threads):
    functional, answers = FUNCTIONALS[3][0], set()
    x = torch.from_numpy(normals(3, 700_000)).requires_grad_()
    for count in (1, 2, 5):
        set_threads(count)
        answer = fastlam.mean(functional, x)
        answers.add((bits(answer.detach()), bits(torch.autograd.grad(answer.sum(), x)[0])))
    assert len(answers) == 1


def test_parameters_of_the_mean_of_one_row():
    """Which is one number: its gradient in a parameter is no sum over parameters."""
    x, strike, scale = torch.tensor([1.0, 3.0, 5.0]), torch.tensor(2.0), torch.tensor(1.5)

    def price(strike, scale):
        return fastlam.mean(fastlam.Functional("a * max(x - k, 0)", {"k": strike, "a": scale}), x)

    learned = strike.clone().requires_grad_(), scale.clone().requires_grad_()
    got = torch.autograd.grad(price(*learned), learned)
    assert [grad.item() for grad in got] == pytest.approx([-1.0, 4 / 3])
    tangent = torch.func.jvp(price, (strike, scale), (torch.tensor(1.0), torch.tensor(3.0)))[1]
    assert tangent.item() == pytest.approx(-1.0 + 4)


def test_on_meta():
    """A shape without values, as of mean_square."""
    answer = fastlam.mean(FUNCTIONALS[0][0], X.to("meta"), index=torch.ones(2, 5, dtype=torch.int64, device="meta"))
    assert (answer.device.type, answer.shape, answer.dtype) == ("meta", (2, 5), X.dtype)


def test_not_a_number_flows_through():
    x = np.array([[1.0, np.nan], [np.inf, 0.0], [1.0, 2.0]])
    got = fastlam.mean(FUNCTIONALS[0][0], x)
    assert np.isnan(got[0])
    assert got[1] == np.inf
    assert np.isfinite(got[2])


def test_square_is_mean_square():
    x, lam = X.clone().requires_grad_(), LAM.clone().requires_grad_()
    got = fastlam.mean(fastlam.Square(lam), x, index=INDEX)
    assert torch.equal(got, fastlam.mean_square(x, lam, index=INDEX))
    grads = torch.autograd.grad(got.sum(), (x, lam), create_graph=True)
    assert grads[0].requires_grad  # twice


class Twice(fastlam.Polynomial):
    factor = 2.0


class Fourth(fastlam.Square):
    handle = fastlam.Functional("x**4").handle


@KIND
@pytest.mark.parametrize("functional", [Twice([0.5, 1.0]), Fourth(0.3)], ids=["factor", "element"])
def test_factor_and_element_of_a_subclass(functional, kind):
    """Bit for bit what one pass has of the same paths."""
    process, times = fastlam.Brownian(0.3, 0.7, 1.5), kind(np.array([0.5, 1.0]))
    got = fastlam.mean(functional, fastlam.simulate(process, times, 1000, seed=3))
    assert bits(got) == bits(fastlam.simulate_mean(functional, process, times, 1000, seed=3))
    alone = fastlam.Polynomial([0.5, 1.0]) if isinstance(functional, Twice) else fastlam.Functional("x**4")
    assert bits(got) == bits(functional.factor * fastlam.simulate_mean(alone, process, times, 1000, seed=3))


def as_formula(x, lam, index=None):
    return fastlam.mean(fastlam.Functional("lam * x**2", {"lam": lam}), x, index=index)


def as_polynomial(x, lam, index=None):
    return fastlam.mean(fastlam.Polynomial([0.0, 0.0, lam]), x, index=index)


SECOND = {"grad of grad", "grad in lam of grad in x", "jvp of grad", "grad of jvp", "hessian", "third"}
SECOND |= {"autograd of func"}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("f", [as_formula, as_polynomial])
def test_transforms(transform, f):
    """Right to the first order; the second is refused, never a silent zero."""
    if transform in SECOND:
        with pytest.raises(NotImplementedError, match="first order"):
            TRANSFORMS[transform](f)
    else:
        same(TRANSFORMS[transform](f), TRANSFORMS[transform](plain))


MIXED = {  # first in one, then in the other
    "lam, x": lambda f: func.grad(lambda x: func.grad(lambda lam: f(x, lam).square().sum())(LAM))(X),
    "x, lam": lambda f: func.grad(lambda lam: func.grad(lambda x: f(x, lam).sum())(X).sum())(LAM),
    "x, weight": lambda f: func.grad(lambda w: func.grad(lambda x: (w * f(x, LAM)).sum())(X).sum())(LAM),
    "lam, tangent of x": lambda f: func.jvp(func.grad(lambda lam, x: f(x, lam).sum()), (LAM, X), (LAM * 0, X))[1],
    "tangent of lam, x": lambda f: func.grad(lambda x: func.jvp(lambda lam: f(x, lam).sum(), (LAM,), (LAM,))[1])(X),
    "tangent of x, lam": lambda f: func.grad(lambda lam: func.jvp(lambda x: f(x, lam).sum(), (X,), (X,))[1])(LAM),
}


@pytest.mark.parametrize("derivatives", MIXED)
def test_mixed_second_derivatives_raise(derivatives):
    assert (MIXED[derivatives](plain) != 0).all()  # so it would be seen
    with pytest.raises(NotImplementedError, match="first order"):
        MIXED[derivatives](as_formula)


def test_values_that_may_change_before_the_backward():
    """What nobody differentiates in is not kept for it: paths may be drawn anew into x, or be none of autograd's."""

    def price(x):
        (strike,) = leaves(torch.tensor(0.3, dtype=torch.float64))
        return fastlam.mean(fastlam.Functional("max(x - k, 0)", {"k": strike}), x), strike

    x = torch.randn(3, 70, generator=torch.Generator().manual_seed(1))
    answer, strike = price(x)
    want = -(x > 0.3).double().mean(1)
    x.zero_()
    strike.data.add_(1)
    (got,) = torch.autograd.grad(answer, strike, torch.eye(3)[1])
    torch.testing.assert_close(got, want[1], rtol=1e-14, atol=0)
    with torch.inference_mode():
        frozen = torch.randn(3, 70, generator=torch.Generator().manual_seed(1))
    answer, strike = price(frozen)
    torch.testing.assert_close(torch.autograd.grad(answer.sum(), strike)[0], want.sum(), rtol=1e-14, atol=0)


def test_mixed_second_derivatives_raise_in_autograd():
    x, lam, weight = leaves(X, LAM, LAM)
    for first, second in ((x, lam), (lam, x), (x, weight)):
        k = weight * as_formula(x, lam)
        (slope,) = torch.autograd.grad(k.sum(), first, create_graph=True)
        with pytest.raises(NotImplementedError, match="first order"):
            torch.autograd.grad(slope.sum(), second)


@pytest.mark.parametrize("index", [None, INDEX, torch.tensor([[0, 1], [2, 2]])], ids=["all", "index", "matrix"])
def test_gradcheck(index):
    def polynomial(x, a, b, center):
        return fastlam.mean(fastlam.Polynomial([0.5, a, b, 0.1], center), x, index=index)

    def formula(x, a, b, center):
        return fastlam.mean(fastlam.Functional("exp(a * x) * cos(b - c * x)", {"a": a, "b": b, "c": center}), x)

    values = [torch.tensor(value, dtype=torch.float64) for value in (0.3, -0.4, 0.2)]
    for f in (polynomial, formula):
        assert gradcheck(f, leaves(X, *values), check_forward_ad=True, check_batched_grad=True)


def test_float32_gradients():
    """Of the dtype of each input, computed in float64."""
    x, a = leaves(X.float(), torch.tensor(0.5))
    fastlam.mean(fastlam.Polynomial([0.0, a, 1.0]), x).sum().backward()
    assert x.grad.dtype == a.grad.dtype == torch.float32
    torch.testing.assert_close(x.grad, (a.detach() + 2 * x.detach()) / 4, rtol=2e-7, atol=0)
    torch.testing.assert_close(a.grad, x.detach().double().mean(-1).sum().float(), rtol=2e-7, atol=0)


def strong_wolfe(parameters):
    return torch.optim.LBFGS(parameters, line_search_fn="strong_wolfe")


def test_trains_with_any_optimizer():
    """A strike is found from prices."""
    x = torch.from_numpy(normals(20, 400))
    want = fastlam.mean(fastlam.Functional("max(x - strike, 0)", {"strike": 0.4}), x)
    for make in (lambda p: torch.optim.Adam(p, lr=0.02), lambda p: torch.optim.SGD(p, lr=0.05), strong_wolfe):
        strike = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimizer = make([strike])

        def loss(strike=strike, optimizer=optimizer):
            optimizer.zero_grad()
            value = (
                (fastlam.mean(fastlam.Functional("max(x - strike, 0)", {"strike": strike}), x) - want).square().sum()
            )
            value.backward()
            return value

        for _ in range(200):
            optimizer.step(loss)
        assert abs(strike.item() - 0.4) < 1e-3


@pytest.mark.parametrize("index", [None, INDEX], ids=["all", "index"])
def test_opcheck(index):
    functional = fastlam.Polynomial([0.5, -0.2, 1.0], center=0.1)
    theta = torch.tensor(list(functional.parameters().values()), dtype=torch.float64)
    weight = torch.ones(len(X) if index is None else len(index), dtype=torch.float64)
    torch.library.opcheck(torch.ops.fastlam.mean.default, (X, theta, index, functional.handle, [0, 2]))
    torch.library.opcheck(torch.ops.fastlam.mean_slopes.default, (X, theta, weight, index, functional.handle))


@pytest.mark.parametrize(
    "layout", [lambda theta: torch.stack([theta + 1, theta], 1)[:, 1], lambda theta: theta.float()]
)
def test_ops_read_theta_in_any_layout(layout):
    """As vmap over a later axis hands it to them; in float32, which has these values too."""
    handle, theta = fastlam.Polynomial([0.5, -0.25]).handle, torch.tensor([0.125, 0.5, -0.25], dtype=torch.float64)
    mean, slopes = torch.ops.fastlam.mean, torch.ops.fastlam.mean_slopes
    assert torch.equal(mean(X, layout(theta), None, handle, [1]), mean(X, theta, None, handle, [1]))
    weight = torch.ones(len(X), dtype=torch.float64)
    assert torch.equal(slopes(X, layout(theta), weight, None, handle), slopes(X, theta, weight, None, handle))


def test_vmap_over_any_axis_of_theta():
    handle, theta = fastlam.Polynomial([0.5, -0.25]).handle, torch.from_numpy(normals(3, 5))
    got = torch.vmap(lambda theta: torch.ops.fastlam.mean(X, theta, None, handle, []), in_dims=1)(theta)
    for row, one in zip(got, theta.T.contiguous(), strict=True):
        assert torch.equal(row, torch.ops.fastlam.mean(X, one, None, handle, []))


@pytest.mark.parametrize("theta", [torch.ones(2), torch.ones(4), torch.ones(3, 1)], ids=["short", "long", "matrix"])
def test_ops_refuse_another_number_of_parameters(theta):
    """Memory outside of theta is not read."""
    handle, weight = fastlam.Polynomial([0.5, -0.25]).handle, torch.ones(len(X))
    with pytest.raises(ValueError, match=r"mean: theta must have shape \(3,\), but has"):
        torch.ops.fastlam.mean(X, theta.double(), None, handle, [])
    with pytest.raises(ValueError, match=r"mean_slopes: theta must have shape \(3,\), but has"):
        torch.ops.fastlam.mean_slopes(X, theta.double(), weight, None, handle)


BAD = [
    ((2.0, X), {}, TypeError, "mean: functional must be one such as fastlam.Square, but is 2.0"),
    ((None, X.long()), {}, TypeError, "mean: x has dtype int64"),
    ((None, X.half()), {}, TypeError, "mean: x has dtype float16"),
    ((None, X[:, :0]), {}, ValueError, "mean: x must have at least one element"),
    ((None, torch.tensor(1.0)), {}, ValueError, "mean: x must have at least one element and one axis"),
    ((None, [[1.0]]), {}, TypeError, "mean: x"),
    ((None, np.ma.masked_equal([[1.0, 2.0]], 2.0)), {}, TypeError, "mean: x"),
    ((None, X), {"index": torch.tensor([3])}, IndexError, "mean: index holds 3"),
    ((None, X.numpy()), {"index": [3]}, IndexError, "mean: index holds 3"),
    ((None, X), {"index": torch.tensor([0.0])}, TypeError, "mean: index must hold integers"),
    ((fastlam.Polynomial([LAM]), X.numpy()), {}, TypeError, r"mean: x is a NumPy array, but a parameter is a tensor"),
]


@pytest.mark.parametrize(("arguments", "names", "error", "message"), BAD)
def test_bad_input(arguments, names, error, message):
    functional, x = arguments
    with pytest.raises(error, match=message):
        fastlam.mean(FUNCTIONALS[0][0] if functional is None else functional, x, **names)


def test_equality_and_copies():
    """By arguments; the copies give the same answers."""
    made = [
        lambda: fastlam.Square(0.5),
        lambda: fastlam.Square(torch.tensor([0.5, 1.0, 2.0])),
        lambda: fastlam.Polynomial([1, torch.tensor(0.5)], center=0.25),
        lambda: fastlam.Functional("max(x - k, 0)", {"k": 0.25}),
        lambda: fastlam.Functional(sympy.Symbol("x") * sympy.Symbol("k"), {"k": 0.25}),
    ]
    for make in made:
        first = make()
        for other in (make(), copy.copy(first), copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
            assert other == first
            assert hash(other) == hash(first)
            assert repr(other) == repr(first)
            assert bits(fastlam.mean(other, X)) == bits(fastlam.mean(first, X))
        first.parameters().clear()
        assert first == make()
    assert len({make() for make in made}) == len(made)
    assert fastlam.Polynomial([1, 2]) != fastlam.Polynomial([1, 3])
    assert fastlam.Polynomial([1, 2]) != "x"


def test_equality_of_arrays():
    """An answer of yes or no, whatever lam is."""
    lams = [0.5, 2.0, np.array([0.5, 1.0]), np.array([0.5, 2.0]), np.ones(3), np.ones((2, 1)), np.array(4.0)]
    lams += [torch.tensor([0.5, 1.0]), torch.nn.Parameter(torch.tensor([0.5, 1.0])), torch.tensor(3.0), "x", None]
    for i, a in enumerate(lams):
        for j, b in enumerate(lams):
            assert (fastlam.Square(a) == fastlam.Square(copy.copy(b))) is (i == j)
    assert fastlam.Square(torch.tensor(0.5)) == fastlam.Square(0.5) == fastlam.Square(np.array(0.5))
    assert fastlam.Square(0.5) != fastlam.Polynomial([0.5])


@pytest.mark.parametrize("expression", [["x"], {"x": 1}, True, None, 1j])
def test_no_expression(expression):
    fastlam.Functional(1)  # which True is not
    with pytest.raises(TypeError, match="Functional: expression must be text, a SymPy expression or a real number"):
        fastlam.Functional(expression)
