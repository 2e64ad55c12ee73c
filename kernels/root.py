"""Square roots, rounded correctly, by instructions that stand in a row."""

from llvmlite import ir
from numba import TypingError, types
from numba.extending import intrinsic


def finish_root_float32(builder, x, reciprocal):
    """The root of x, by the last steps of NVIDIA's own from its reciprocal of a root."""
    return _nearer(builder, x, builder.fmul(x, reciprocal), builder.fmul(reciprocal, x.type(0.5)))


def finish_root_float64(builder, x, reciprocal):
    """The same, whose reciprocal may be off by a part in 2**20."""
    one, half, three_eighths = (x.type(value) for value in (1.0, 0.5, 0.375))
    off = builder.fma(x, _minus(builder, builder.fmul(reciprocal, reciprocal)), one)
    slope = builder.fma(off, three_eighths, half)
    reciprocal = builder.fma(slope, builder.fmul(reciprocal, off), reciprocal)
    return _nearer(builder, x, builder.fmul(x, reciprocal), _half(builder, reciprocal))


def _nearer(builder, x, guess, half):
    """The root of x from a guess and half of its reciprocal: what is left of x tells what the guess is off by."""
    return builder.fma(builder.fma(_minus(builder, guess), guess, x), half, guess)


def _minus(builder, x):
    return builder.fsub(x.type(-0.0), x)  # NVVM knows no fneg


def _half(builder, x):
    """Half of a float64: its exponent less one, which is cheaper there than a product."""
    word = ir.IntType(32)
    words = builder.bitcast(x, ir.VectorType(word, 2))
    high = builder.sub(builder.extract_element(words, word(1)), word(2**20))
    return builder.bitcast(builder.insert_element(words, high, word(1)), x.type)


ROOTS = {  # NVIDIA's reciprocals of roots, the first of 0 too; what makes roots of them
    types.float32: (
        ("abs.f32 $0, $1; rsqrt.approx.ftz.f32 $0, $0; min.f32 $0, $0, 0f49800000;", "=f,f"),
        finish_root_float32,
    ),
    types.float64: (
        (
            "{ .reg .b32 low, high, none; .reg .f64 r; rsqrt.approx.ftz.f64 r, $1; mov.b64 {none, high}, r; "
            "mov.b64 {none, low}, $1; sub.u32 low, low, 0x3500000; mov.b64 $0, {low, high}; }",
            "=d,d",
        ),
        finish_root_float64,
    ),
}


@intrinsic
def root(typingctx, x):
    """The square root of a float, rounded correctly, where that is 0 (a float32 alone) or within 2**-40 and 2**60.

    On NVIDIA's GPUs it is what their compiler makes of a root of such numbers, without the branch to that of others,
    across which it moves nothing. tests/test_cuda_compile.py compares the two.
    """
    if x not in (types.float32, types.float64):
        raise TypingError(f"root takes a float32 or a float64, not {x}")

    def codegen(context, builder, signature, arguments):
        if not builder.module.triple.startswith("nvptx"):
            return builder.call(builder.module.declare_intrinsic("llvm.sqrt", [arguments[0].type]), arguments)
        (number,) = arguments
        near, finish = ROOTS[x]
        kind = ir.FunctionType(number.type, [number.type])
        return finish(builder, number, builder.call(ir.InlineAsm(kind, *near), [number]))

    return x(x), codegen
