"""Philox4x32-10: a counter and a key to four random words.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11.

Words travel in uint64 lanes with 32 significant bits, so that a product of two is one multiplication on every target.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

U64 = np.uint64

LOW = U64(2**32 - 1)
HALF = U64(32)
MULTIPLIER_0, MULTIPLIER_1 = U64(0xD2511F53), U64(0xCD9E8D57)
KEY_STEP_0, KEY_STEP_1 = U64(0x9E3779B9), U64(0xBB67AE85)


@intrinsic
def wide_product(typingctx, a, b):
    """A * b of two uint64 below 2**32. NVIDIA's compiler does not see that high words are 0, and would add them."""

    def codegen(context, builder, signature, arguments):
        if not builder.module.triple.startswith("nvptx"):
            return builder.mul(*arguments)
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.IntType(64), [word, word])
        words = [builder.trunc(argument, word) for argument in arguments]
        return builder.call(ir.InlineAsm(kind, "mul.wide.u32 $0, $1, $2;", "=l,r,r"), words)

    return types.uint64(types.uint64, types.uint64), codegen


@njit(inline="always")
def philox(c0, c1, c2, c3, k0, k1):
    """Words r0, r1, r2, r3 of counter (c0, c1, c2, c3) under key (k0, k1); all uint64 below 2**32."""
    for _ in range(10):
        p0 = wide_product(c0 & LOW, MULTIPLIER_0)
        p1 = wide_product(c2 & LOW, MULTIPLIER_1)
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0 = (k0 + KEY_STEP_0) & LOW
        k1 = (k1 + KEY_STEP_1) & LOW
    return c0, c1, c2, c3
