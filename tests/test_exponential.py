"""exp, log, exprel and its slope: errors against exact evaluation, ends, types, and every coefficient anew."""

import math

import mpmath
import numpy as np
import pytest
from numba import TypingError, njit, types

from fastlam.kernels import exponential, logarithm
from fastlam.kernels.exponential import exp, exprel, exprel_slope
from fastlam.kernels.floats import float32_of_bits
from fastlam.kernels.logarithm import log

UNITS = {exp: 1, log: 1.5, exprel: 3, exprel_slope: 4}  # what their docstrings promise
INF, NAN = math.inf, math.nan
DIGITS = 50
BOTH = pytest.mark.parametrize("element", [exp, log], ids=["exp", "log"])
ALL = pytest.mark.parametrize("element", UNITS, ids=lambda element: element.__name__)


def bits_of(value):
    return int(np.float32(value).view(np.int32))


def around(value, reach=2**16):
    """Bits of the float32 nearest to `value` and of `reach` on either side of it, within its sign."""
    return bits_of(value) - reach, bits_of(value) + reach


@njit
def unit_float32(y):
    """A unit in the last place of float32 at a real y."""
    return max(math.ldexp(1.0, math.frexp(y)[1] - 24), 2.0**-149)


def unit_float64(y):
    return mpmath.ldexp(1, max(mpmath.frexp(y)[1] - 53, -1074))


def worst_float32(element, exact):
    """The worst error in units over float32 bits first, first + stride, ... below stop; `exact` is good to 2**-27."""

    @njit(error_model="numpy")
    def worst(first, stop, stride):
        answer = 0.0
        for bits in range(first, stop, stride):
            x = float32_of_bits(np.int32(bits))
            y = exact(np.float64(x))
            error = abs(np.float64(element(x)) - y) / unit_float32(y)
            if not error <= answer:  # a NaN stays
                answer = error
        return answer

    return worst


def worst_float64(element, exact, xs):
    with mpmath.workdps(DIGITS):
        pairs = [(element(float(x)), exact(mpmath.mpf(float(x)))) for x in xs]
        return max(abs(y - mpmath.mpf(value)) / unit_float64(y) for value, y in pairs)


def test_exp_float32():
    """[-104, 89], a 31st of it; all of the subnormal answers and of the largest; 2**16 about 0 on either side."""
    worst, last = worst_float32(exp, math.exp), bits_of(88.72283)  # exp of the next is beyond the largest
    spans = [
        (bits_of(0.0), last + 1, 31),
        (bits_of(-0.0), bits_of(-104.0) + 1, 31),
        (bits_of(-87.33), bits_of(-104.0) + 1, 1),
        (bits_of(88.5), last + 1, 1),
        (bits_of(0.0), 2**16, 1),
        (bits_of(-0.0), bits_of(-0.0) + 2**16, 1),
    ]
    assert max(worst(*span) for span in spans) <= UNITS[exp]


def test_exp_float32_beyond_its_ends():
    inf_from, zero_from = bits_of(88.72283) + 1, bits_of(-150 * math.log(2)) + 1
    one = njit(lambda bits: exp(float32_of_bits(np.int32(bits))))
    assert all(one(bits) == INF for bits in range(inf_from, bits_of(89.0) + 1))
    assert all(one(bits) == 0 for bits in range(zero_from, zero_from + 2**16))


def test_log_float32():
    """A 31st of all positive numbers; 2**16 on either side of 1, of both ends of the polynomial and of subnormals."""
    worst, root = worst_float32(log, math.log), math.sqrt(0.5)
    spans = [(1, bits_of(INF), 31), (1, 2**16, 1), (bits_of(INF) - 2**16, bits_of(INF), 1)]
    spans += [(*around(x), 1) for x in (1.0, root, 2 * root, 2.0**-126)]
    assert max(worst(*span) for span in spans) <= UNITS[log]


def near(*values):
    """The 64 floats on either side of each."""
    return [float(np.float64(v) + k * np.spacing(v)) for v in values for k in range(-64, 65)]


def uniform(low, high, n=2000):
    return np.random.default_rng(17).uniform(low, high, n)


def test_exp_float64():
    xs = [*uniform(-708, 709.78), *uniform(-746, -708), *uniform(-1, 1), *2.0 ** -np.arange(1.0, 1075)]
    xs += [*near(-708.3964185322641, -745.1332191019412), *(709.782712893384 - np.arange(64) * 2.0**-43)]
    xs += near(*(np.arange(-6, 6) + 0.5) * math.log(2))  # where n changes
    assert worst_float64(exp, mpmath.exp, xs) <= UNITS[exp]


def test_log_float64():
    xs = [*uniform(0.5, 2), *2 ** uniform(-1022, 1024), *2 ** uniform(-1074, -1022), *(1 + uniform(-1e-9, 1e-9))]
    xs += [*near(1.0, 0.5**0.5, 2**0.5, 2.0**-1022), *np.arange(1, 65) * 5e-324, math.nextafter(INF, 0)]
    assert worst_float64(log, mpmath.log, [x for x in xs if x != 1]) <= UNITS[log]


def points_of_exprel():
    """All sizes down to the smallest, where branches meet, and up to where exprel overflows."""
    small = [sign * 10.0**-k for k in range(0, 320, 3) for sign in (-1, 1)] + [5e-324]
    meet = near(*(sign * x for x in (2.0, 0.5 * math.log(2), 1.5 * math.log(2)) for sign in (-1, 1)))
    return [*small, *meet, *uniform(-3, 3), *uniform(-0.4, 0.4), *uniform(-800, 716.3)]


def exact_exprel(x):
    return mpmath.expm1(x) / x


def exact_exprel_slope(x):
    if abs(x) < 1e-3:  # the series: the formula cancels
        return mpmath.fsum(k * x ** (k - 1) / mpmath.factorial(k + 1) for k in range(1, 20))
    return (mpmath.exp(x) * (x - 1) + 1) / x**2


def test_exprel():
    assert worst_float64(exprel, exact_exprel, points_of_exprel()) <= UNITS[exprel]


def test_exprel_slope():
    assert worst_float64(exprel_slope, exact_exprel_slope, points_of_exprel()) <= UNITS[exprel_slope]


SPECIAL = {
    exp: [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (NAN, NAN), (3e38, INF), (-3e38, 0)],
    log: [(1.0, 0), (0.0, -INF), (-0.0, -INF), (-1e-45, NAN), (-1.0, NAN), (INF, INF), (-INF, NAN), (NAN, NAN)],
    exprel: [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (NAN, NAN), (716.5, INF), (1e308, INF), (-1e308, 1e-308)],
    exprel_slope: [(0.0, 0.5), (-0.0, 0.5), (INF, INF), (-INF, 0), (NAN, NAN), (716.5, INF), (-1e308, 0)],
}


@ALL
def test_special_values(element):
    for x, y in SPECIAL[element]:
        np.testing.assert_array_equal(element(x), y)


@BOTH
def test_special_values_float32(element):
    in_kernel = njit(lambda x: element(x), error_model="numpy")
    for x, y in SPECIAL[element]:
        np.testing.assert_array_equal(in_kernel(np.float32(x)), np.float32(y))


def test_exp_float64_beyond_its_ends():
    assert exp(709.782712893384) == pytest.approx(1.797693134862273e308, rel=1e-15)
    assert exp(math.nextafter(709.782712893384, INF)) == INF
    assert exp(-745.1332191019411) == 5e-324
    assert exp(math.nextafter(-745.1332191019412, -INF)) == 0


@BOTH
@pytest.mark.parametrize("real", [types.float32, types.float64], ids=str)
def test_answer_is_of_the_type_of_x(element, real):
    in_kernel = njit(lambda x: element(x))
    in_kernel.compile((real,))
    assert in_kernel.nopython_signatures[0].return_type == real


@BOTH
@pytest.mark.parametrize("x", [1, True, 1j])
def test_other_types(element, x):
    with pytest.raises(TypingError, match="an element takes float32 or float64, not"):
        element(x)


def interpolated(function, low, high, degree):
    """Coefficients, lowest first, of the polynomial through `function` at the Chebyshev nodes of [low, high]."""
    n = degree + 1
    middle, half = (low + high) / 2, (high - low) / 2
    nodes = [middle + half * mpmath.cospi(mpmath.mpf(2 * i + 1) / (2 * n)) for i in range(n)]
    powers = mpmath.matrix([[x**p for p in range(n)] for x in nodes])
    return list(mpmath.lu_solve(powers, mpmath.matrix([function(x) for x in nodes])))


def exp_tail(r):
    """(exp(r) - 1 - r) / r**2."""
    return mpmath.hyp1f1(1, 3, r) / 2


def log_tail(f):
    """(log(1 + f) - f) / f**2."""
    return -mpmath.hyp2f1(1, 2, 3, -f) / 2


def exp_range():
    return -mpmath.log(2) / 2, mpmath.log(2) / 2


def log_range():
    return 1 / mpmath.sqrt(2) - 1, mpmath.sqrt(2) - 1


def wide_range():
    return mpmath.mpf(-2), mpmath.mpf(2)


COEFFICIENTS = {
    (exponential, "TAIL_FLOAT32"): (exp_tail, exp_range, 5),
    (exponential, "TAIL_FLOAT64"): (exp_tail, exp_range, 10),
    (exponential, "WIDE_TAIL_FLOAT64"): (exp_tail, wide_range, 17),
    (logarithm, "TAIL_FLOAT32"): (log_tail, log_range, 8),
    (logarithm, "TAIL_FLOAT64"): (log_tail, log_range, 19),
}


@pytest.mark.parametrize(("module", "name"), COEFFICIENTS)
def test_coefficients(module, name):
    """Made with 60 digits and rounded to the type."""
    real = np.float32 if name.endswith("32") else np.float64
    function, ends, degree = COEFFICIENTS[module, name]
    with mpmath.workdps(60):
        made = interpolated(function, *ends(), degree)
        assert getattr(module, name) == tuple(real(float(c)) for c in made)


def test_no_coefficients_are_left_out():
    named = {(module, name) for module in (exponential, logarithm) for name in vars(module) if "_FLOAT" in name}
    assert named == COEFFICIENTS.keys()


@pytest.mark.parametrize(("place", "real"), [(0, np.float32), (1, np.float64)])
def test_constants(place, real):
    with mpmath.workdps(60):
        ln_2 = mpmath.log(2)
        assert exponential.LN_2[place] == real(float(ln_2))
        assert exponential.LN_2_LOW[place] == real(float(ln_2 - mpmath.mpf(float(exponential.LN_2[place]))))
        assert exponential.LOG2_E[place] == real(float(1 / ln_2))
