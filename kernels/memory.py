"""Memory as kernels see it: addresses given to them, small arrays of their own, the counter that threads share."""

from llvmlite import ir
from numba import TypingError, types
from numba.extending import intrinsic

CACHE_LINE = 64
STOP = 2**62  # in the counter of chunks: leave as soon as you can


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
    count = _constant("stack", size)
    kind = types.CPointer(dtype.dtype)

    def codegen(context, builder, signature, arguments):
        element = context.get_data_type(dtype.dtype)
        with builder.goto_entry_block():
            array = builder.alloca(ir.ArrayType(element, count))
            array.align = CACHE_LINE
        return builder.bitcast(array, context.get_value_type(kind))

    return kind(dtype, size), codegen


@intrinsic
def load(typingctx, source, i, stride, count):
    """The tuple source[i], source[i + stride], ... of `count` values at a pointer; `count` is a constant."""
    answer = types.UniTuple(source.dtype, _constant("load", count))

    def codegen(context, builder, signature, arguments):
        base, i, stride, _ = arguments
        values = []
        for _ in range(answer.count):
            values.append(builder.load(builder.gep(base, [i])))
            i = builder.add(i, stride)
        return context.make_tuple(builder, answer, values)

    return answer(source, types.int64, types.int64, count), codegen


@intrinsic
def store(typingctx, target, i, stride, values):
    """Write the values of a tuple, as the target's type, to target[i], target[i + stride], ... at a pointer."""

    def codegen(context, builder, signature, arguments):
        base, i, stride, values = arguments
        for k, kind in enumerate(signature.args[3]):
            value = context.cast(builder, builder.extract_value(values, k), kind, target.dtype)
            builder.store(value, builder.gep(base, [i]))
            i = builder.add(i, stride)
        return context.get_dummy_value()

    return types.void(target, types.int64, types.int64, values), codegen


@intrinsic
def exactly(typingctx, values, count):
    """The tuple `values`, which must have `count` (a constant) of them: it does not compile where there are others."""
    wanted = _constant("exactly", count)
    if not isinstance(values, types.BaseTuple) or len(values) != wanted:
        raise TypingError(f"{wanted} values are wanted, but {values} is returned")
    return values(values, count), lambda context, builder, signature, arguments: arguments[0]


@intrinsic
def load_together(typingctx, source, i, count):
    """The tuple source[i], ..., source[i + count - 1] at a pointer, in one read: aligned to the size of it."""
    answer = types.UniTuple(source.dtype, _constant("load_together", count))
    size = answer.count * source.dtype.bitwidth // 8

    def codegen(context, builder, signature, arguments):
        vector = ir.VectorType(context.get_data_type(source.dtype), answer.count)
        place = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), vector.as_pointer())
        values = builder.load(place, align=size)
        each = [builder.extract_element(values, ir.Constant(ir.IntType(32), k)) for k in range(answer.count)]
        return context.make_tuple(builder, answer, each)

    return answer(source, types.int64, count), codegen


@intrinsic
def claim(typingctx, counter):
    """Atomically add one to the int64 at address `counter` and return what was there: the next chunk to work on."""

    def codegen(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.int64), codegen


@intrinsic
def stopped(typingctx, counter):
    """Does the counter at address `counter` say that the work is given up?"""

    def codegen(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.icmp_signed(">=", builder.load_atomic(place, "monotonic", 8), ir.Constant(ir.IntType(64), STOP))

    return types.boolean(types.int64), codegen


def _constant(name, value):
    if not isinstance(value, types.IntegerLiteral):
        raise TypingError(f"{name}: the size must be a constant")
    return value.literal_value
