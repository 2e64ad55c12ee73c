"""Elements of arithmetic on every target: the same bits on any processor, vectors on the CPU, what is written on CUDA.

A digest is of the answers on `numbers`. To print them, after an answer was changed on purpose:
python tests/test_elements.py
"""

import hashlib
import inspect
import os
import platform
import re
import subprocess
import sys

import numpy as np
import pytest
from llvmlite import binding
from numba import cuda, njit, types

from fastlam.kernels.exponential import TAIL, WIDE_TAIL_FLOAT64, exp, exprel, exprel_slope
from fastlam.kernels.logarithm import TAIL as LOG_TAIL
from fastlam.kernels.logarithm import log
from fastlam.kernels.selection import maximum, minimum, positive, step

DIGESTS = """\
exp float32 b1794fa6e1139c789a0b886b21bff34a748f166fe28cc0c36e4504b87f93d435
exp float64 807f708d2d60887271dc34a2f8da8b7397f714c711ce77495e07270ca5caf2e4
log float32 b2badce3c2c95535e93e989d4bc52694aa1f1a48651e9a7f3048f70a274a0679
log float64 2a090bc04a2173376949c8ed4bd3d694bd9c2795976e09d88fbf3d28369d7e70
exprel float64 d01b1bedc69908b6c43ec89382601c27ca6ed11921ca74c7f52beed9eec91748
exprel_slope float64 18ba197dae330fdbb37b31a7501c096e9cbf2d0c70c7ab569b45e5138b0d681c
positive float32 b02f95fce402fb05b5185a0ad72bf152d5df29cf8acd4ff80a873c74e2cbd9a4
positive float64 306bdff96039bc961e6f91da61b464782222959e3d37925a8b2c4b71660b8f2c
step float32 1286de83083a4ba038242809f839da6f229131530811dfc8beeabd746dd59217
step float64 03f979cd09cc91663ecb55ba5061c8ebe0112fbf1251793e88a9a9dfa7e33b1f
maximum float32 a6b6ecdb2dc2a2fc8a99e81a48b01e588230b05ec07c8afebf2e5d69b04e4cc4
maximum float64 f975855aef201c3de4170de99994b7297d64cda8a518404e3568d28fcbbc32df
minimum float32 1e373f6f8f8ac95a27601ec656078e3270d82c5fe306b9485eeec2a8b5041f3e
minimum float64 e55022680600efa3777148839f04b749d4f3fb1c28a2ed77a2bf25a2051c1381
"""

# The fma that each has in its source, its polynomials written out.
REDUCED = [5 + len(tail) - 1 for tail in TAIL]
EXP, EXPREL = [fmas + 1 for fmas in REDUCED], REDUCED[1] + 1
FMA = {
    exp: EXP,
    log: [3 + len(tail) - 1 for tail in LOG_TAIL],
    exprel: [0, EXPREL],
    exprel_slope: [0, (EXP[1] + len(WIDE_TAIL_FLOAT64) - 1) + (EXP[1] + EXPREL) + (EXPREL + 1)],
    **dict.fromkeys([positive, step, maximum, minimum], (0, 0)),
}
HOST_ONLY = exprel, exprel_slope  # float64, one number at a time: they branch
CASES = [(element, dtype) for element in FMA for dtype in ("float32", "float64")[element in HOST_ONLY :]]


def parametrize(cases):
    return pytest.mark.parametrize(("element", "dtype"), cases, ids=[f"{e.__name__}-{dtype}" for e, dtype in cases])


ALL, IN_LOOPS = parametrize(CASES), parametrize([case for case in CASES if case[0] not in HOST_ONLY])


def is_of_two(element):
    return len(inspect.signature(element.py_func).parameters) == 2


def loop_over(element):
    """y[i] = element(x[i]), or of x[i] and z[i], as kernels have it."""

    def of_one(x, z, y):
        for i in range(1024):
            y[i] = element(x[i])

    def of_two(x, z, y):
        for i in range(1024):
            y[i] = element(x[i], z[i])

    return of_two if is_of_two(element) else of_one


def arrays_of(dtype):
    return (getattr(types, dtype)[::1],) * 3


def compiled(element, dtype, **options):
    return njit(types.void(*arrays_of(dtype)), error_model="numpy", **options)(loop_over(element))


def numbers(dtype):
    """A multiple of 1024 numbers: every exponent and sign, and closely where the answers are neither 0 nor inf."""
    n, word = 2**16, {"float32": np.uint32, "float64": np.uint64}[dtype]
    golden = np.uint64(0x9E3779B97F4A7C15)
    bits = (np.arange(n, dtype=np.uint64) * golden) >> np.uint64(0 if word is np.uint64 else 32)
    steps = np.arange(n) / n
    parts = [bits.astype(word).view(dtype), steps * 1500 - 750, steps * 4 - 2, steps * 200 - 105]
    return np.concatenate([np.asarray(part, dtype) for part in parts])


def digest(element, dtype):
    kernel, x = compiled(element, dtype), numbers(dtype)
    z, y = x[::-1].copy(), np.empty_like(x)
    for block in range(0, x.size, 1024):
        cut = slice(block, block + 1024)
        kernel(x[cut], z[cut], y[cut])
    y[np.isnan(y)] = np.nan  # the sign and payload of a NaN are the processor's
    return hashlib.sha256(y.astype(y.dtype.newbyteorder("<")).tobytes()).hexdigest()


def lines_of_digests():
    return [f"{element.__name__} {dtype} {digest(element, dtype)}" for element, dtype in CASES]


def can_run(processor):
    if platform.machine() != "x86_64":
        return False
    return processor == "x86-64" or binding.get_host_cpu_features().get("avx2", False)


def test_same_bits_on_this_processor():
    assert "\n".join(lines_of_digests()) == DIGESTS.strip()


@pytest.mark.parametrize(
    ("processor", "features"),
    [
        ("x86-64", ""),  # no fma unit: fma in software
        ("haswell", "+avx,+avx2,+fma,+bmi,+bmi2,+sse4.2,+sse4.1,+ssse3,+popcnt,+lzcnt,+f16c"),
    ],
)
def test_same_bits_on_other_processors(processor, features):
    if not can_run(processor):
        pytest.skip(f"waits for a processor that runs code for {processor}")
    environment = {**os.environ, "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features}
    child = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=True)
    assert child.stdout == DIGESTS


@IN_LOOPS
def test_vectorises(element, dtype):
    """Vectors of 8 float32 (4 float64) or more in the element's own instructions, and no call."""
    if not can_run("haswell"):
        pytest.skip("waits for a processor with AVX2")
    kernel = compiled(element, dtype, no_cpython_wrapper=True, no_cfunc_wrapper=True)  # the loop alone
    (assembly,) = kernel.inspect_asm().values()
    suffix = "ps" if dtype == "float32" else "pd"
    own = "vfn?m(add|sub)[0-9]+" if FMA[element][0] else "v(cmp[a-z_]*|max|min)"
    assert re.search(rf"\s{own}{suffix}\s.*[yz]mm", assembly)
    assert not re.search(r"\scall", assembly)


def ptx_of(element, dtype):
    """For a GPU of compute capability 9.0, which need not be there; numba lets the compiler contract."""

    def of_one(x, z, y):
        i = cuda.grid(1)
        y[i] = element(x[i])

    def of_two(x, z, y):
        i = cuda.grid(1)
        y[i] = element(x[i], z[i])

    kernel = of_two if is_of_two(element) else of_one
    return cuda.compile(kernel, arrays_of(dtype), cc=(9, 0), device=False, abi="numba")[0]


@ALL
def test_ptx_has_the_fma_that_are_written(element, dtype):
    """As many, rounded to nearest; nothing approximate, nothing flushed to zero, no call."""
    ptx = ptx_of(element, dtype)
    for spelled in (r"\sfma\.rn\.f", r"\sfma"):
        assert len(re.findall(spelled, ptx)) == FMA[element][dtype == "float64"]
    assert not re.search(r"\scall|\.ftz|\.approx|\.full", ptx)


@IN_LOOPS
def test_ptx_does_not_branch(element, dtype):
    assert not re.search(r"\sbra", ptx_of(element, dtype))


@IN_LOOPS
def test_no_product_feeds_a_sum(element, dtype):
    """So that no compiler has anything to contract. Read before one could: for the CPU they are kept apart."""
    (code,) = compiled(element, dtype).inspect_llvm().values()
    products = set(re.findall(r"(%\S+) = fmul ", code))
    sums = re.findall(r"= f(?:add|sub) (?:<.*?>|float|double) (\S+), (\S+)", code)
    assert bool(products) == bool(sums) == bool(FMA[element][0])
    assert products.isdisjoint(term for terms in sums for term in terms)


if __name__ == "__main__":
    print(*lines_of_digests(), sep="\n")
