"""The machine that runs PTX: what each instruction does, and that what a kernel must not do is found."""

import numpy as np
import ptx_machine
import ptx_text
import pytest
from numba import types
from ptx_code import Code

from fastlam.kernels.cuda import cuda, make_read

F = types.CPointer(types.float32)
D = types.CPointer(types.float64)
I = types.int64  # noqa: E741
SIZE = 64


def launch(kernel, *arrays, backwards=False, threads=SIZE, grid=1):
    """Of a kernel on arrays of float64 or float32."""
    kinds = [D if array.dtype == np.float64 else F for array in arrays]
    ptx_machine.run((lambda: (kernel, types.void(*kinds)), (), threads), grid, *arrays, backwards=backwards)


def make_reverse(real, waits):
    def reverse(x, y):
        shared = cuda.shared.array(SIZE, real)
        i = cuda.threadIdx.x
        shared[i] = x[i]
        if waits:
            cuda.syncthreads()
        y[i] = shared[SIZE - 1 - i]

    return reverse


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_barrier_and_the_want_of_one(backwards, real):
    x, y = np.arange(SIZE, dtype=real), np.zeros(SIZE, real)
    launch(make_reverse(real, True), x, y, backwards=backwards)
    assert (y == x[::-1]).all()
    launch(make_reverse(real, False), x, y, backwards=backwards)
    assert np.isnan(y).sum() == SIZE // 2  # what was read before it was written


def shuffled(x, y):
    i = cuda.threadIdx.x
    y[i] = cuda.shfl_down_sync(0xFFFFFFFF, x[i], 5)


def test_shuffles():
    """Within a warp; a thread that has none further on has its own."""
    x, y = np.arange(float(SIZE)), np.zeros(SIZE)
    launch(shuffled, x, y)
    lane = np.arange(SIZE) % 32
    assert (y == np.where(lane + 5 < 32, x + 5, x)).all()


def some_shuffle(x, y):
    i = cuda.threadIdx.x
    if i < 40:
        y[i] = cuda.shfl_down_sync(0xFFFFFFFF, x[i], 1)


def some_wait(x, y):
    i = cuda.threadIdx.x
    if i < 32:
        cuda.syncthreads()
    y[i] = x[i]


@pytest.mark.parametrize(("kernel", "threads"), [(some_shuffle, SIZE), (some_wait, SIZE), (shuffled, 40)])
def test_threads_that_do_not_come(kernel, threads):
    with pytest.raises(ptx_machine.Fault, match="different barriers"):
        launch(kernel, np.zeros(SIZE), np.zeros(SIZE), threads=threads)


def far_shuffle(x, y):
    i = cuda.threadIdx.x
    y[i] = cuda.shfl_down_sync(0xFFFFFFFF, x[i], 33)


def test_shuffles_from_another_warp():
    with pytest.raises(ptx_machine.Fault, match=r"shfl\.sync\.down"):
        launch(far_shuffle, np.zeros(SIZE), np.zeros(SIZE))


def one_beyond(x, y):
    i = cuda.threadIdx.x
    y[i] = x[i + 1]


def one_before(x, y):
    i = cuda.threadIdx.x
    y[i - 1] = x[i]


def beyond_shared(x, y):
    shared = cuda.shared.array(SIZE, np.float64)
    i = cuda.threadIdx.x
    shared[i + 1] = x[i]
    y[i] = shared[i]


@pytest.mark.parametrize("kernel", [one_beyond, one_before, beyond_shared])
def test_memory_that_is_not_there(kernel):
    with pytest.raises(ptx_machine.Fault, match=r"outside .*(ld|st)\.(global|shared)\.f64"):
        launch(kernel, np.zeros(SIZE), np.zeros(SIZE))


def test_reads_of_16_bytes_are_aligned():
    read = make_read("float32", True)

    def take(x, y):
        y[0], y[1], y[2], y[3] = read(x, 0)

    def launch_at(start):
        ptx_machine.run((lambda: (take, types.void(F, F)), (), 1), 1, x[start : start + 4], y)

    memory = np.arange(12, dtype=np.float32)
    x, y = memory[-memory.ctypes.data // 4 % 4 :], np.zeros(4, np.float32)
    launch_at(0)
    assert (y == x[:4]).all()
    with pytest.raises(ptx_machine.Fault, match=r"not aligned .*ld\.global\.v4\.f32"):
        launch_at(1)


def test_blocks_of_a_grid():
    def where(x, y):
        block = I(cuda.blockIdx.x) + 3 * I(cuda.blockIdx.y)
        y[block * 2 + cuda.threadIdx.x] = x[block] + cuda.gridDim.x * 10 + cuda.gridDim.y * 100

    x, y = np.arange(6.0), np.zeros(12)
    launch(where, x, y, threads=2, grid=(3, 2))
    assert (y == np.repeat(x, 2) + 230).all()


HEAD = ".visible .entry k(\n.param .u64 k_param_0,\n.param .u64 k_param_1\n)\n{\n"


def computed(body, a, b=0, wide=True):
    """What PTX makes of two numbers, as bits: of %rd1 and %rd2 to %rd9, or of halves of one, %r1 and %r2, to %r9."""
    part, name = ("u64", "rd") if wide else ("u32", "r")
    text = (
        f"{HEAD}ld.param.u64 %rd10, [k_param_0]; ld.param.u64 %rd11, [k_param_1];\n"
        f"ld.global.{part} %{name}1, [%rd10]; ld.global.{part} %{name}2, [%rd10+{8 if wide else 4}];\n"
        f"{body}\nst.global.{part} [%rd11], %{name}9;\nret;\n}}\n"
    )
    x, y = np.array([a, b], np.uint64).view(np.int64), np.zeros(1, np.int64)
    ptx_machine.run_program(ptx_machine.built(text), 1, 1, x, y)
    return int(y[0]) % 2 ** (64 if wide else 32)


def float_bits(value, real="float64"):
    return int(np.array(value, real).view(f"uint{np.dtype(real).itemsize * 8}"))


M = 2**64
NEXT_TO_ONE = float_bits(1 + 2.0**-52)
INSTRUCTIONS = [
    ("add.s64 %rd9, %rd1, %rd2;", M - 1, 2, 1),
    ("sub.s64 %rd9, %rd1, %rd2;", 1, 2, M - 1),
    ("mul.lo.s64 %rd9, %rd1, -3;", 5, 0, M - 15),
    ("mul.hi.s64 %rd9, %rd1, %rd2;", M - 2, 2**63 - 1, M - 1),
    ("mul.hi.u64 %rd9, %rd1, %rd2;", M - 2, 3, 2),
    ("div.s64 %rd9, %rd1, %rd2;", M - 7, 2, M - 3),
    ("rem.s64 %rd9, %rd1, %rd2;", M - 7, 2, M - 1),
    ("min.s64 %rd9, %rd1, %rd2;", M - 7, 2, M - 7),
    ("max.u64 %rd9, %rd1, %rd2;", M - 7, 2, M - 7),
    ("neg.s64 %rd9, %rd1;", 7, 0, M - 7),
    ("not.b64 %rd9, %rd1;", 7, 0, M - 8),
    ("shl.b64 %rd9, %rd1, 64;", 7, 0, 0),
    ("shl.b64 %rd9, %rd1, 63;", 3, 0, 2**63),
    ("shr.u64 %rd9, %rd1, 70;", M - 1, 0, 0),
    ("shr.s64 %rd9, %rd1, 70;", M - 8, 0, M - 1),
    ("shr.s64 %rd9, %rd1, 1;", M - 8, 0, M - 4),
    ("bfi.b64 %rd9, %rd1, %rd2, 4, 8;", 0x1AB, 0xFFFF, 0xFABF),
    ("setp.lt.s64 %p1, %rd1, %rd2; selp.b64 %rd9, 1, 0, %p1;", M - 1, 0, 1),
    ("setp.lt.u64 %p1, %rd1, %rd2; selp.b64 %rd9, 1, 0, %p1;", M - 1, 0, 0),
    ("setp.ne.s64 %p1, %rd1, %rd2; not.pred %p2, %p1; selp.b64 %rd9, 5, 6, %p2;", 1, 0, 6),
    ("setp.ltu.f64 %p1, %rd1, %rd2; selp.b64 %rd9, 1, 0, %p1;", float_bits(np.nan), 0, 1),
    ("setp.lt.f64 %p1, %rd1, %rd2; selp.b64 %rd9, 1, 0, %p1;", float_bits(np.nan), 0, 0),
    ("setp.ne.f64 %p1, %rd1, %rd2; selp.b64 %rd9, 1, 0, %p1;", float_bits(np.nan), 0, 0),
    ("setp.num.f64 %p1, %rd1, %rd2; selp.b64 %rd9, 1, 0, %p1;", float_bits(np.nan), 0, 0),
    ("setp.nan.f64 %p1, %rd1, %rd2; selp.b64 %rd9, 1, 0, %p1;", float_bits(np.nan), 0, 1),
    ("cvt.rmi.f64.f64 %rd9, %rd1;", float_bits(-1.5), 0, float_bits(-2.0)),
    ("cvt.rni.f64.f64 %rd9, %rd1;", float_bits(2.5), 0, float_bits(2.0)),
    ("cvt.rzi.s64.f64 %rd9, %rd1;", float_bits(-1.5), 0, M - 1),
    ("cvt.rpi.s64.f64 %rd9, %rd1;", float_bits(np.nan), 0, 0),
    ("abs.s64 %rd9, %rd1;", M - 3, 0, 3),
    ("{ .reg .b64 %temp; mov.b64 %temp, %rd1; mov.b64 %rd9, %temp; }", 4, 0, 4),
    ("mov.b64 {%r3, %r4}, %rd1; mov.b64 %rd9, {%r4, %r3};", 2**32 + 5, 0, 5 * 2**32 + 1),
    ("cvt.u32.u64 %r3, %rd1; cvt.s64.s32 %rd9, %r3;", 2**32 - 1, 0, M - 1),
    ("cvt.u32.u64 %r3, %rd1; cvt.u64.u32 %rd9, %r3;", 2**40 - 1, 0, 2**32 - 1),
    ("fma.rn.f64 %rd9, %rd1, %rd1, %rd2;", NEXT_TO_ONE, float_bits(-1.0), float_bits(2.0**-51 + 2.0**-104)),
    ("abs.f64 %rd9, %rd1;", float_bits(-0.0), 0, 0),
    ("neg.f64 %rd9, %rd1;", float_bits(0.0), 0, float_bits(-0.0)),
    ("min.f64 %rd9, %rd1, %rd2;", float_bits(np.nan), float_bits(2.0), float_bits(2.0)),
    ("min.f64 %rd9, %rd1, %rd2;", float_bits(0.0), float_bits(-0.0), float_bits(-0.0)),
    ("min.f64 %rd9, %rd1, %rd2;", float_bits(-0.0), float_bits(0.0), float_bits(-0.0)),
    ("max.f64 %rd9, %rd1, %rd2;", float_bits(-0.0), float_bits(0.0), float_bits(0.0)),
    ("rsqrt.approx.ftz.f64 %rd9, %rd1;", float_bits(-0.0), 0, float_bits(-np.inf)),
    ("rsqrt.approx.ftz.f64 %rd9, %rd1;", float_bits(4.0), 0, float_bits(0.5)),
    ("rcp.rn.f64 %rd9, %rd1;", float_bits(3.0), 0, float_bits(1 / 3)),
    ("cvt.rn.f64.s64 %rd9, %rd1;", M - 3, 0, float_bits(-3.0)),
    ("mov.f64 %rd9, 0d3FF8000000000000;", 0, 0, float_bits(1.5)),
    ("mov.f32 %f1, 0f3FC00000; cvt.f64.f32 %rd9, %f1;", 0, 0, float_bits(1.5)),
    ("{ .reg .b64 low; add.s64 low, %rd1, 1; mov.b64 %rd9, low; }", 4, 0, 5),
]


@pytest.mark.parametrize(("body", "a", "b", "want"), INSTRUCTIONS)
def test_instructions(body, a, b, want):
    assert computed(body, a, b) == want


W = 2**32
NEXT_TO_1 = float_bits(1 + 2.0**-23, "float32")
NARROW = [
    ("add.s32 %r9, %r1, %r2;", W - 1, 2, 1),
    ("mul.lo.s32 %r9, %r1, %r2;", W - 1, 5, W - 5),
    ("mad.lo.s32 %r9, %r1, %r2, 7;", W - 1, 5, 2),
    ("mul.wide.s32 %rd1, %r1, %r2; shr.u64 %rd2, %rd1, 32; cvt.u32.u64 %r9, %rd2;", W - 1, 5, W - 1),
    ("mul.wide.u32 %rd1, %r1, %r2; shr.u64 %rd2, %rd1, 32; cvt.u32.u64 %r9, %rd2;", W - 1, 5, 4),
    ("div.u32 %r9, %r1, %r2;", W - 1, 2, 2**31 - 1),
    ("shl.b32 %r9, %r1, 32;", 1, 0, 0),
    ("shr.s32 %r9, %r1, %r2;", W - 8, 40, W - 1),
    ("bfi.b32 %r9, %r1, %r2, 0, 1;", 1, 6, 7),
    (
        "fma.rn.f32 %r9, %r1, %r1, %r2;",
        NEXT_TO_1,
        float_bits(-1.0, "float32"),
        float_bits(2.0**-22 + 2.0**-46, "float32"),
    ),
    ("mul.rn.f32 %r9, %r1, %r2;", float_bits(3.0, "float32"), float_bits(0.5, "float32"), float_bits(1.5, "float32")),
    ("div.rn.f32 %r9, %r1, %r2;", float_bits(1.0, "float32"), float_bits(3.0, "float32"), float_bits(1 / 3, "float32")),
    ("min.f32 %r9, %r1, 0f49800000;", float_bits(np.inf, "float32"), 0, float_bits(2.0**20, "float32")),
    ("rsqrt.approx.ftz.f32 %r9, %r1;", float_bits(0.0, "float32"), 0, float_bits(np.inf, "float32")),
    ("cvt.f64.f32 %fd1, %r1; cvt.rn.f32.f64 %r9, %fd1;", NEXT_TO_1, 0, NEXT_TO_1),
    ("cvt.rn.f32.s32 %r9, %r1;", W - 3, 0, float_bits(-3.0, "float32")),
]


@pytest.mark.parametrize(("body", "a", "b", "want"), NARROW)
def test_narrow_instructions(body, a, b, want):
    assert computed(body, a + W * b, wide=False) == want


def test_guards():
    body = "setp.eq.s64 %p1, %rd1, 3; mov.u64 %rd9, 7; @%p1 mov.u64 %rd9, 8; @!%p1 bra $L1; mov.u64 %rd9, 9;\n$L1:\n"
    assert [computed(body, a) for a in (3, 4)] == [9, 7]


@pytest.mark.parametrize(
    "statement",
    [
        "ex2.approx.f64 %rd1, %rd2",
        "add.f64 %rd1, %rd1, %rd2",
        "ld.const.f64 %rd1, [%rd2]",
        "cvt.rzi.f32.f64 %f1, %fd2",
        "cvt.sat.f32.f32 %f1, %f2",
        "bar.sync 1",
        "mov.u32 %r1, %laneid",
        "div.full.f32 %f1, %f2, %f3",
        "mul.rz.f32 %f1, %f2, %f3",
        "mul.f32 %f1, %f2, %f3",
        "membar.cta",
        "setp.hs.f64 %p1, %fd1, %fd2",
        "trap",
        "setp.lt.and.s32 %p1, %r1, %r2, %p2",
        "ld.f64 %fd1, [%rd2]",
        "ld.global.u8 %rs1, [%rd2]",
        "ld.global.s32 %rd1, [%rd2]",
        "rsqrt.approx.f32 %f1, %f2",
        "shfl.sync.bfly.b32 %r1, %r2, 1, 31, -1",
    ],
)
def test_what_is_not_known_is_refused(statement):
    with pytest.raises(NotImplementedError, match="not known"):
        Code(ptx_text.read(f"{HEAD}{statement};\nret;\n}}\n"))
