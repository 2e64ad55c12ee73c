"""The normals' map, word by word: errors against exact evaluation, reach, ends, and every coefficient anew."""

import math
import re
from pathlib import Path

import mpmath
import numpy as np
import pytest
from numba import njit, types

from fastlam import reference
from fastlam.kernels import floats
from fastlam.kernels.normal import normals_float32, normals_float64, radius_float32

ERROR_FLOAT32, ERROR_FLOAT64 = 1e-6, 1e-14  # what README promises of a normal, absolute
REACH_FLOAT32 = math.sqrt(80 * math.log(2))  # 7.447, the radius of the smallest u, 2**-40: half of 1/256, times 2**-31
REACH_FLOAT64 = math.sqrt(106 * math.log(2))  # 8.572, of 2**-53
DIGITS = 50


def over_arrays(element, word, real):
    """The element of two words as a function of arrays of words that broadcast."""

    @njit(error_model="numpy")
    def loop(a, b, answers):
        for i in range(a.size):
            answers[0, i], answers[1, i] = element(a[i], b[i])

    def on_arrays(a, b):
        a, b = np.broadcast_arrays(np.asarray(a).astype(word), np.asarray(b).astype(word))
        answers = np.empty((2, a.size), real)
        loop(a.ravel(), b.ravel(), answers)
        return answers.reshape(2, *a.shape)

    return on_arrays


@njit
def cos_sin_element_float32(_, word):
    return floats.cos_sin_turns_float32(word)


@njit
def cos_sin_element_float64(_, word):
    return floats.cos_sin_turns_float64(word)


pairs_float32 = over_arrays(normals_float32, np.uint32, np.float32)
pairs_float64 = over_arrays(normals_float64, np.uint64, np.float64)
cos_sin_float32 = over_arrays(cos_sin_element_float32, np.uint32, np.float32)
cos_sin_float64 = over_arrays(cos_sin_element_float64, np.uint64, np.float64)


def pair_errors_float32(radius_words, angle_words):
    """Errors of both normals, the larger, against the map evaluated in float64 (whose own are below 1e-14)."""
    words = np.asarray(radius_words, np.uint64), np.asarray(angle_words, np.uint64)
    exact = np.stack(np.broadcast_arrays(*reference.normal_pair(*reference.uniforms_float32(*words))))
    return np.abs(pairs_float32(*words) - exact).max(axis=0)


@njit(error_model="numpy")
def radius_error_float32(word, byte):
    u = np.float32(np.float32(word // 2) + (np.float32(byte) + np.float32(0.5)) / np.float32(256))
    exact = math.sqrt(-2 * math.log(np.float64(u) * 2.0**-31))
    return abs(np.float64(radius_float32(np.uint32(word), np.uint32(byte))) - exact)


@njit(error_model="numpy")
def worst_radius_float32(first_bits, stop_bits):
    """The worst error over every float32 in a range of u * 2**31, reached by the word and byte that round to it."""
    worst = 0.0
    for bits in range(first_bits, stop_bits):
        u = np.float64(floats.float32_of_bits(np.int32(bits)))
        k = min(int(u), 2**31 - 1)
        error = radius_error_float32(2 * k, min(255, int((u - k) * 256)))
        if not error <= worst:  # a NaN stays
            worst = error
    return worst


@njit(error_model="numpy")
def worst_small_radius_word_float32(stop):
    worst = 0.0
    for k in range(stop):
        for byte in range(256):
            error = radius_error_float32(2 * k, byte)
            if not error <= worst:
                worst = error
    return worst


def bits_of(value):
    return int(np.float32(value).view(np.int32))


@pytest.fixture(scope="module")
def angle_words():
    """2**15 angle words on both sides of every eighth of a turn (so both ends too), and the range in strides of 509."""
    near = [eighth * 2**29 + np.arange(-(2**15), 2**15) for eighth in range(8)]
    return np.concatenate([*near, np.arange(0, 2**32, 509)]).astype(np.uint32)


@pytest.fixture(scope="module")
def trigonometry_float32(angle_words):
    """|cos| and |sin| at these words, and the kernel's errors there."""
    turns = 2 * np.pi * (angle_words.view(np.int32) / 2.0**32)
    exact = np.stack([np.cos(turns), np.sin(turns)])
    return np.abs(exact), np.abs(cos_sin_float32(0, angle_words) - exact)


def test_known_answers():
    half, lines = np.uint64(32), 0
    for line in Path(__file__).with_name("known_answers.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            names, words, answers = line.split("|")
            r0, r1, r2, r3 = (np.uint64(int(word, 16)) for word in words.split())
            if names.startswith("float32"):
                z, bound = pairs_float32([r0, r2], [r1, r3]).T, ERROR_FLOAT32
            else:
                z, bound = pairs_float64([r0 | r1 << half], [r2 | r3 << half]).T, ERROR_FLOAT64
            assert np.abs(z.ravel() - np.array(answers.split(), float)).max() <= bound, line
            lines += 1
    assert lines == 200


def test_radius_float32_at_every_value_it_takes():
    """143 million: every byte for the smallest 2**16 words, and each float32 that u can round to above them.

    Half a unit in the last place of a radius in [4, 8) is 2.4e-7 and of its square near 55, 1.3e-7 in the radius; the
    rest is the polynomial. Beyond half of a normal's 1e-6 nothing would be left for the angle and the product.
    """
    assert worst_small_radius_word_float32(2**16) <= ERROR_FLOAT32 / 2
    assert worst_radius_float32(bits_of(2.0**16), bits_of(2.0**31) + 1) <= ERROR_FLOAT32 / 2


def test_pairs_float32_over_the_words():
    """Odd words, all bytes, both ends: the rounding of words to u and v; 2**22 pairs."""
    steps = np.arange(2**20, dtype=np.uint64)
    angles = steps * np.uint64(2654435769) % 2**32  # by the golden section: evenly over the turn, all bytes
    for radius_words in (steps, 2**32 - 1 - steps, steps * np.uint64(4093), steps * np.uint64(4093) + 1):
        assert pair_errors_float32(radius_words % 2**32, angles).max() <= ERROR_FLOAT32


def test_pairs_float32_where_the_angle_errs_most(angle_words, trigonometry_float32):
    """The 2048 angle words of the largest errors, each with the 1024 smallest radius words and 1024 more in strides."""
    errors = trigonometry_float32[1].max(axis=0)
    worst_angles = angle_words[np.argpartition(errors, -2048)[-2048:]]
    k = np.concatenate([np.arange(1024), np.arange(1024, 2**16, 63)]).astype(np.uint64)
    errors = pair_errors_float32(2 * k[:, np.newaxis], worst_angles)
    i, j = np.unravel_index(errors.argmax(), errors.shape)
    assert errors.max() <= ERROR_FLOAT32, f"radius word {2 * k[i]}, angle word {worst_angles[j]}"


def test_bound_float32_away_from_the_tail(trigonometry_float32):
    """For all radii below that of word 2**17 together, by err_R |cos| + R err_cos + half a unit of the product."""
    cos, error = trigonometry_float32
    radius = math.sqrt(-2 * math.log(2.0**-15))
    radius_error = worst_radius_float32(bits_of(2.0**16), bits_of(2.0**31) + 1)
    rounding = np.spacing((radius * cos).astype(np.float32)) / 2
    assert (radius_error * cos + radius * error + rounding).max() <= ERROR_FLOAT32


def exact_radius_float64(word):
    return mpmath.sqrt(-2 * mpmath.log((mpmath.mpf(int(word) >> 12) + mpmath.mpf("0.5")) / 2**52))


def radius_words_float64():
    """Both ends, every power of two and every sqrt(1/2) * 2**-e of u (where the exponent is split off), strides."""
    ends = [np.arange(512), 2**52 - 1 - np.arange(512)]
    edges = [int(2.0**e * s) + np.arange(-3, 4) for e in range(4, 52) for s in (1.0, math.sqrt(0.5))]
    top = np.unique(np.concatenate([*ends, *edges, np.arange(0, 2**52, 2**52 // 3001)])).astype(np.uint64)
    return (top << np.uint64(12)) | np.uint64(0xABC)  # the low 12 bits are not used


def angle_words_float64():
    """256 words on both sides of every eighth of a turn, and strides; the low 11 bits are not used."""
    near = [eighth * 2**50 + np.arange(-256, 256) for eighth in range(8)]
    top = np.concatenate([*near, np.arange(0, 2**53, 2**53 // 3001)]) % 2**53
    return (top.astype(np.uint64) << np.uint64(11)) | np.uint64(0x5A5)


def test_bound_float64():
    """err_R + R err_cos + half a unit of the product, at the worst of each: far below 1e-14, so no joint search."""
    radius_words, angles = radius_words_float64(), angle_words_float64()
    with mpmath.workdps(DIGITS):
        radii = pairs_float64(radius_words, 0)[0]  # cos 0 = 1
        exact = [exact_radius_float64(word) for word in radius_words]
        radius_error = max(abs(x - float(r)) for x, r in zip(exact, radii, strict=True))
        turns = [mpmath.mpf(int(v)) / 2**52 for v in angles.view(np.int64) >> 11]  # v, times two for cospi
        cos, sin = cos_sin_float64(0, angles)
        cos_error = max(abs(mpmath.cospi(v) - float(c)) for v, c in zip(turns, cos, strict=True))
        sin_error = max(abs(mpmath.sinpi(v) - float(s)) for v, s in zip(turns, sin, strict=True))
    rounding = np.spacing(REACH_FLOAT64) / 2
    assert radius_error + REACH_FLOAT64 * max(cos_error, sin_error) + rounding <= ERROR_FLOAT64


def test_pairs_float64_are_radius_times_cos_and_sin():
    radius_words, angles = radius_words_float64()[:, np.newaxis], angle_words_float64()[::7]
    both = pairs_float64(radius_words, 0)[0] * cos_sin_float64(0, angles)[:, np.newaxis]
    np.testing.assert_array_equal(pairs_float64(radius_words, angles), both)
    assert np.isfinite(both).all()


def test_reach_and_ends():
    every_byte = np.arange(2**20)
    assert (pairs_float32(2**32 - 1, every_byte) == 0).all()  # u rounds to 1
    assert np.abs(pairs_float32(0, every_byte)).max() == pytest.approx(REACH_FLOAT32, abs=ERROR_FLOAT32)
    assert np.abs(pairs_float64(0, 0)).max() == pytest.approx(REACH_FLOAT64, abs=ERROR_FLOAT64)
    last = np.array([2**64 - 1], np.uint64)
    assert pairs_float64(last, [0])[0, 0] == pytest.approx(2.0**-26, rel=1e-15)  # sqrt(-2 ln(1 - 2**-53))
    corners = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1], np.uint64)  # of 32-bit words, and by twos of 64-bit words
    corners = (corners[:, np.newaxis] << np.uint64(32) | corners).ravel()
    assert np.isfinite(pairs_float32(corners[:, np.newaxis] % 2**32, corners >> np.uint64(32))).all()
    assert np.isfinite(pairs_float64(corners[:, np.newaxis], corners)).all()


def interpolated(function, low, high, degree):
    """Coefficients, lowest first, of the polynomial through `function` at the Chebyshev nodes of [low, high]."""
    n = degree + 1
    middle, half = (low + high) / 2, (high - low) / 2
    nodes = [middle + half * mpmath.cospi(mpmath.mpf(2 * i + 1) / (2 * n)) for i in range(n)]
    powers = mpmath.matrix([[x**p for p in range(n)] for x in nodes])
    return list(mpmath.lu_solve(powers, mpmath.matrix([function(x) for x in nodes])))


def minus_two_log_slope(f):
    return -2 * mpmath.log1p(f) / f


def sin_slope(q):
    return mpmath.sin(mpmath.pi / 4 * mpmath.sqrt(q)) / mpmath.sqrt(q)


def cos_slope(q):
    return (mpmath.cos(mpmath.pi / 4 * mpmath.sqrt(q)) - 1) / q


COEFFICIENTS = {
    "MINUS_TWO_LOG_FLOAT32": (minus_two_log_slope, 8, []),
    "MINUS_TWO_LOG_FLOAT64": (minus_two_log_slope, 20, []),
    "SIN_FLOAT32": (sin_slope, 3, []),
    "SIN_FLOAT64": (sin_slope, 6, []),
    "COS_FLOAT32": (cos_slope, 3, [1]),
    "COS_FLOAT64": (cos_slope, 5, [1]),
}


def made_from_scratch(function, degree, leading):
    root = mpmath.sqrt(2)
    low, high = (1 / root - 1, root - 1) if function is minus_two_log_slope else (mpmath.mpf(0), mpmath.mpf(1))
    return leading + interpolated(function, low, high, degree)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_coefficients(name):
    """Made with 60 digits and rounded to the type."""
    real = np.float32 if name.endswith("32") else np.float64
    with mpmath.workdps(60):
        assert getattr(floats, name) == tuple(real(float(c)) for c in made_from_scratch(*COEFFICIENTS[name]))


def test_rest_of_the_first_sin_coefficient():
    with mpmath.workdps(60):
        rest = made_from_scratch(*COEFFICIENTS["SIN_FLOAT32"])[0] - float(floats.SIN_FLOAT32[0])
        made = np.float32(float(rest)), *floats.SIN_FLOAT32[1:]
    assert made == floats.SIN_REST_FLOAT32


def test_no_coefficients_are_left_out():
    tuples = {name for name, value in vars(floats).items() if isinstance(value, tuple)}
    assert tuples == COEFFICIENTS.keys() | {"SIN_REST_FLOAT32"}


@pytest.mark.parametrize(
    ("normals", "words"), [(normals_float32, (types.uint32, types.uint32)), (normals_float64, (types.uint64,) * 2)]
)
def test_no_product_feeds_a_sum_outside(normals, words):
    """In a step that adds a normal to its state a GPU's compiler would join the two."""
    real = types.float32 if normals is normals_float32 else types.float64

    def add(radius_word, angle_word, x, answer):
        z0, z1 = normals(radius_word, angle_word)
        answer[0], answer[1] = x + z0, x - z1

    (code,) = njit(types.void(*words, real, real[::1]), error_model="numpy")(add).inspect_llvm().values()
    products = set(re.findall(r"(%\S+) = fmul ", code))
    sums = re.findall(r"= f(?:add|sub) (?:float|double) (\S+), (\S+)", code)
    assert products
    assert sums
    assert products.isdisjoint(term for terms in sums for term in terms)
