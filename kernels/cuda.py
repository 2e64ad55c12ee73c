"""Loops for NVIDIA GPUs, of the same elements as those of cpu.py, and the same bits: what they share, and paths.

Each `make_*` gives (kernel, signature), and after these numbers of blocks that shall find room in a multiprocessor, of
which `cuda_launch.cubin` takes the largest that it can have.
Arrays come as pointers; strides count elements; nothing is checked. `device` functions are the loops' own parts. In
numba's simulator pointers are arrays, kernels and `device` functions run as Python, and elements compiled for the CPU:
a float32 that one returns comes as a Python float, so that it is made `real` again.
"""

import numpy as np
from numba import config, cuda, njit, types

from .memory import load_together
from .normal import make_sign, normals_float32, normals_float64, words_float64
from .philox import philox

F64 = np.float64
I64 = np.int64
U32, U64 = np.uint32, np.uint64

BLOCK = 4  # normals of one path that are made together, of one Philox block (float32) or two (float64)
THREADS = 256  # of a block, where threads know nothing of one another
ROOMS = 4, 6  # blocks of these that shall find room in a multiprocessor

I = types.int64  # noqa: E741
U = types.uint64
D = types.CPointer(types.float64)

SIMULATED = bool(config.ENABLE_CUDASIM)  # by numba, which then knows no warps, no vectors, no options

# NVVM inlines them: where numba did, a kernel took up to four times as long to compile.
device = cuda.jit(device=True) if SIMULATED else cuda.jit(device=True, forceinline=True)


def make_load(count):
    """load(array, i, stride): the tuple array[i], array[i + stride], ... of `count` values."""
    if count == 0:

        @device
        def load(array, i, stride):
            return ()

    else:
        rest = make_load(count - 1)

        @device
        def load(array, i, stride):
            return (array[i], *rest(array, i + stride, stride))

    return load


def make_read(dtype, aligned):
    """read(x, i): x[i], ..., x[i + 3]; at once where i and the address of x are multiples of 16 bytes."""
    if not aligned or SIMULATED:
        load = make_load(4)

        @device
        def read(x, i):
            return load(x, i, 1)

    elif dtype == "float32":

        @device
        def read(x, i):
            return load_together(x, i, 4)

    else:

        @device
        def read(x, i):
            return load_together(x, i, 2) + load_together(x, i + 2, 2)

    return read


def make_read_block(count, dtype):
    """read(array, i): array[i], ..., `count` for each time of a block; i and the address are multiples of 16 bytes."""
    if count == 0:

        @device
        def read(array, i):
            return ()

    else:
        some, rest = make_read(dtype, True), make_read_block(count - 1, dtype)

        @device
        def read(array, i):
            return (*some(array, i), *rest(array, i + BLOCK))

    return read


def make_store(count):
    """store(array, i, stride, values): array[i], array[i + stride], ... = values."""
    if count == 0:

        @device
        def store(array, i, stride, values):
            pass

    else:
        rest = make_store(count - 1)

        @device
        def store(array, i, stride, values):
            array[i] = values[0]
            rest(array, i + stride, stride, values[1:])

    return store


def make_cast(count, real):
    """cast(values): the tuple of `count` values, each `real`."""
    if count == 0:

        @device
        def cast(values):
            return ()

    else:
        rest = make_cast(count - 1, real)

        @device
        def cast(values):
            return (real(values[0]), *rest(values[1:]))

    return cast


@njit(inline="always")
def _float32_block(path, block, key0, key1):
    r0, r1, r2, r3 = philox(path & U64(2**32 - 1), path >> U64(32), block, U64(0), key0, key1)
    z0, z1 = normals_float32(U32(r0), U32(r1))
    z2, z3 = normals_float32(U32(r2), U32(r3))
    return z0, z1, z2, z3


@njit(inline="always")
def _float64_pair(path, block, key0, key1):
    r0, r1, r2, r3 = philox(path & U64(2**32 - 1), path >> U64(32), block, U64(0), key0, key1)
    radius_word, angle_word = words_float64(r0, r1, r2, r3)
    return normals_float64(radius_word, angle_word)


@njit(inline="always")
def _float64_block(path, block, key0, key1):
    z0, z1 = _float64_pair(path, U64(block + block), key0, key1)
    z2, z3 = _float64_pair(path, U64(block + block) + U64(1), key0, key1)
    return z0, z1, z2, z3


def make_noise(dtype, antithetic):
    """normals(path, block, key0, key1): those of times 4 block to 4 block + 3."""
    plain = _float32_block if dtype == "float32" else _float64_block
    if not antithetic:
        return plain
    sign = make_sign(dtype)

    @njit(inline="always")
    def normals(path, block, key0, key1):
        z0, z1, z2, z3 = plain(path & ~U64(1), block, key0, key1)
        factor = sign(path)
        return z0 * factor, z1 * factor, z2 * factor, z3 * factor

    return normals


def make_simulate(step, observe, n_coefficients, dtype, antithetic):
    """Paths: out[j, i] = what `observe` sees of path first_path + i after j + 1 steps of `step`; a thread a path.

    x0 comes as the paths' dtype: of float32 ones nothing is done in double precision.
    """
    normals = make_noise(dtype, antithetic)
    real = getattr(np, dtype)
    load, read = make_load(n_coefficients), make_read_block(n_coefficients, dtype)
    second, third, fourth = n_coefficients, 2 * n_coefficients, 3 * n_coefficients  # where those of a time start

    @device
    def one_step(out, at, x, z, c):
        x = real(step(x, real(z), c))
        out[at] = observe(x)
        return x

    def simulate(out, row_stride, n_times, n_paths, first_path, key0, key1, x0, coefficients):
        i = I64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
        if i < n_paths:
            path = U64(first_path + U64(i))
            x = x0[0]
            at = i
            j = 0
            while j + BLOCK <= n_times:
                c = read(coefficients, j * n_coefficients)
                z0, z1, z2, z3 = normals(path, U64(j >> 2), key0, key1)
                x = one_step(out, at, x, z0, c[:second])
                x = one_step(out, at + row_stride, x, z1, c[second:third])
                x = one_step(out, at + 2 * row_stride, x, z2, c[third:fourth])
                x = one_step(out, at + 3 * row_stride, x, z3, c[fourth:])
                at += BLOCK * row_stride
                j += BLOCK
            if j < n_times:
                at = i + j * row_stride  # anew: to count it beside the addresses above would take registers there
                z0, z1, z2, _ = normals(path, U64(j >> 2), key0, key1)
                x = one_step(out, at, x, z0, load(coefficients, j * n_coefficients, 1))
                if j + 1 < n_times:
                    x = one_step(out, at + row_stride, x, z1, load(coefficients, (j + 1) * n_coefficients, 1))
                if j + 2 < n_times:
                    x = one_step(out, at + 2 * row_stride, x, z2, load(coefficients, (j + 2) * n_coefficients, 1))

    R = types.CPointer(getattr(types, dtype))
    return simulate, types.void(R, I, I, I, U, U, U, R, R), *ROOMS
