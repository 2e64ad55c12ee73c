"""Memory as kernels see it: addresses given to them, small arrays of their own, the counter that threads share."""

from llvmlite import ir
from numba import types
from numba.core.errors import RequireLiteralValue
from numba.core.extending import intrinsic

CACHE_LINE = 64


@intrinsic
def pointer(typingctx, address, dtype):
    """The integer `address` as a pointer to `dtype`: kernels are called with plain integers."""
    kind = types.CPointer(dtype.dtype)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(address, dtype), codegen


@intrinsic
def stack(typingctx, dtype, size):
    """A pointer to `size` (a constant) values of `dtype` on this call's stack: no other pointer can alias it."""
    if not isinstance(size, types.IntegerLiteral):
        raise RequireLiteralValue("stack: size must be a constant")
    kind = types.CPointer(dtype.dtype)

    def codegen(context, builder, signature, arguments):
        element = context.get_data_type(dtype.dtype)
        with builder.goto_entry_block():
            array = builder.alloca(ir.ArrayType(element, size.literal_value))
            array.align = CACHE_LINE
        return builder.bitcast(array, context.get_value_type(kind))

    return kind(dtype, size), codegen


@intrinsic
def claim(typingctx, counter):
    """Atomically add one to the int64 at address `counter` and return what was there: the next chunk to work on."""

    def codegen(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.int64), codegen
