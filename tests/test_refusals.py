"""Elements that do not compile, or not for GPUs to what they are on the CPU: named, with what is wrong."""

import math

import numpy as np
import ptx_machine
import pytest
from numba import njit

from fastlam.kernels import cpu, cuda, cuda_ptx
from fastlam.kernels.identity import identity
from fastlam.kernels.launch import compiled
from fastlam.kernels.selection import maximum, minimum

inline = njit(inline="always")


class Thing:
    """Nothing that numba knows."""


thing = Thing()


@njit  # neither inlined by numba nor anything that README asks for
def squared(x):
    return x * x


@inline
def adds_text(x, z, coefficients):
    return x + "text"


@inline
def returns_two(x, z, coefficients):
    return x, z


@inline
def takes_more(x, z, coefficients):
    return x + coefficients[9]


@inline
def names_nothing(x, z, coefficients):
    return x + nothing  # noqa: F821


@inline
def names_a_thing(x, z, coefficients):
    return x + thing.value


@inline
def calls_what_is_not_there(x, z, coefficients):
    return math.comb(x, z)


@njit
def of_two(x, z):
    return x


@inline
def calls_numpy(x, z, coefficients):
    return np.sqrt(x)


@inline
def makes_an_array(x, z, coefficients):
    return x + np.zeros(3)[0]


@inline
def makes_a_list(x, z, coefficients):
    return x + [1.0, 2.0][1]


@inline
def imports(x, z, coefficients):
    import math

    return math.sqrt(x)


@inline
def tries(x, z, coefficients):
    try:
        y = x + z
    except Exception:
        y = x
    return y


@inline
def writes(x, z, coefficients):
    return x + len(f"{z:.3f}")


@inline
def takes_the_larger(x, z, coefficients):
    return max(x, z)


@inline
def takes_the_smaller(x, z, coefficients):
    return min(x, type(x)(1))


@inline
def raises_an_error(x, z, coefficients):
    if z < type(x)(0):
        raise ValueError("negative")
    return x


@njit
def checked(x):
    if not x > 0:
        raise AssertionError
    return x


@inline
def calls_what_raises(x, z, coefficients):
    return checked(x)


ALWAYS = [
    (adds_text, r"No implementation of .*add.* add\(float32, Literal\[str\]\(text\)\)"),
    (takes_more, "tuple index out of range"),
    (names_nothing, "NameError: name 'nothing' is not defined, or it is nothing that compiles"),
    (names_a_thing, "NameError: name 'thing' is not defined, or it is nothing that compiles"),
    (calls_what_is_not_there, "Unknown attribute 'comb' of type Module.*math"),
    (of_two, "Cannot bind .*too many positional arguments"),
    (imports, r"Use of unsupported opcode \(IMPORT_NAME\)"),
    (writes, "format spec in f-strings not supported"),
]
ON_CPUS = [
    (
        returns_two,
        r"No implementation of .*setitem.* setitem\(array\(float32, 1d, C\), int64, array\(float32, 1d, C\)\)",
    )
]
ON_GPUS = [
    (returns_two, r"No implementation of .*UniTuple\(float32 x 2\)"),
    (calls_numpy, "numba does not know <ufunc 'sqrt'>"),
    (makes_an_array, r"No implementation of .*zeros\(Literal\[int\]\(3\)\)"),
    (makes_a_list, "NRT required but not enabled"),
    (tries, ".*no attribute 'set_try_status'"),
]


def said(element, reason):
    return rf"elements {element.__name__}, identity do not compile together, .*: {reason}"


@pytest.mark.parametrize(("element", "reason"), ALWAYS + ON_CPUS)
def test_on_cpus(element, reason):
    with pytest.raises(TypeError, match=said(element, reason)) as caught:
        compiled(cpu.make_simulate, element, identity, 2, "float32", False)
    assert caught.value.__cause__ is not None  # where numba says all


@pytest.mark.parametrize(("element", "reason"), ALWAYS + ON_GPUS)
def test_on_gpus(element, reason):
    with pytest.raises(TypeError, match=said(element, reason)):
        cuda_ptx.ptx(cuda.make_simulate, (element, identity, 2, "float32", False))


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (
            takes_the_larger,
            "one of the elements takes_the_larger, identity calls max or min of two floats, which lose NaN",
        ),
        (takes_the_smaller, "one of the elements takes_the_smaller, identity calls max or min of two floats"),
        (raises_an_error, "the element raises_an_error raises, of which no GPU tells: have it return NaN instead"),
        (calls_what_raises, "the element calls_what_raises raises, of which no GPU tells"),
    ],
)
@pytest.mark.parametrize("real", ["float32", "float64"])
def test_what_gpus_do_otherwise(element, message, real):
    with pytest.raises(TypeError, match=message):
        cuda_ptx.ptx(cuda.make_simulate, (element, identity, 2, real, False))
    compiled(cpu.make_simulate, element, identity, 2, real, False)


@inline
def above(x, y):
    return x if x > y else y


@inline
def below(x, y):
    return x if x < y else y


@inline
def largest(x, y):
    return max(x, y, type(x)(0))


@inline
def larger_than_a_number(x, y):
    return max(x, 0) + y


def make_of_two(element, real):
    def of_two(x, y, out):
        i = cuda.cuda.threadIdx.x
        out[i] = element(x[i], y[i])

    R = cuda.types.CPointer(getattr(cuda.types, real))
    return of_two, cuda.types.void(R, R, R)


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("element", [maximum, minimum, above, below, largest, larger_than_a_number])
def test_what_gpus_do_too(element, real):
    """Larger and smaller ones, to the bits of the CPU: also where NVVM makes one instruction of them."""
    some = np.array([np.nan, 0, -0.0, 1, -1, np.inf], real)
    x, y = (a.ravel().copy() for a in np.meshgrid(some, some))
    out = np.zeros_like(x)
    ptx_machine.run((make_of_two, (element, real), x.size), 1, x, y, out)
    wanted = np.array([element(a, b) for a, b in zip(x, y, strict=True)], real)
    np.testing.assert_array_equal(out, wanted)
    assert (np.signbit(out) == np.signbit(wanted))[~np.isnan(out)].all()
    assert np.isnan(wanted).any()


def test_functions_that_numba_does_not_inline():
    @inline
    def step(x, z, coefficients):
        return x + squared(coefficients[0])

    out, x0 = np.zeros((5, 3), np.float32), np.ones(1, np.float32)
    coefficients = np.arange(10, dtype=np.float32)
    case = cuda.make_simulate, (step, identity, 2, "float32", False), cuda.THREADS
    ptx_machine.run(case, 1, out, 3, 5, 3, 0, 0, 0, x0, coefficients)
    assert out.tolist() == np.repeat(1 + np.cumsum(coefficients[::2] ** 2), 3).reshape(5, 3).tolist()
