"""A GPU on the CPU, for tests: kernels are run as the PTX that their machine code is assembled from.

Threads of a block run one after the other from barrier to barrier, forwards or backwards, so that what lacks a barrier
shows. Shared memory and registers start as NaN. What a card does in silence, or not at all, raises: an address outside
of the arrays that a kernel is given or not aligned, threads that wait at different barriers, a warp that has lost some.
"""

from functools import cache
from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np
import ptx_text
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from ptx_code import BLOCK, CONTEXT, DONE, FAULT, WARP, Code
from ptx_values import SPECIAL

from fastlam.kernels import cuda_ptx

WARP_SIZE = 32
POISON = np.full(2, 0x7FF80000, np.uint32).view(np.int64)[0]  # NaN as a float64, and as two float32
FINISHED, APART, FAULTED = 0, 1, 2


class Fault(AssertionError):
    """A kernel does what it must not."""


class Program(NamedTuple):
    kernel: ptx_text.Kernel
    points: np.ndarray
    address: int
    engine: object  # which owns the code


@cache
def built(text):
    """The program of a text of PTX."""
    kernel = ptx_text.read(text)
    code = Code(kernel)
    module = llvm.parse_assembly(code.text())
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=1
    )
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return Program(kernel, np.array([0, *code.points], np.int32), engine.get_function_address("run"), engine)


@intrinsic
def follow(typingctx, run, thread, context, entry):
    """Call `run` at an address with two addresses and an entry."""

    def codegen(context, builder, signature, arguments):
        pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(word, [pointer, pointer, word])
        address, *pointers, entry = arguments
        pointers = [builder.inttoptr(value, pointer) for value in pointers]
        return builder.call(builder.inttoptr(address, kind.as_pointer()), [*pointers, entry])

    return types.int32(types.int64, types.int64, types.int64, types.int32), codegen


@njit
def follow_threads(run, first, stop, at, points, who, places, context, backwards):
    """Each of these that begins or waits for `who`, to where it waits next."""
    for k in range(stop - first):
        t = stop - 1 - k if backwards else first + k
        if at[t] == 0 or (at[t] > 0 and points[at[t]] == who):
            at[t] = follow(run, places[t], context, at[t])
            if at[t] == FAULT:
                return FAULTED
    return FINISHED


@njit
def follow_warp(run, first, stop, at, points, places, context, backwards):
    """Until its threads wait for the block or are done."""
    while True:
        if follow_threads(run, first, stop, at, points, WARP, places, context, backwards) == FAULTED:
            return FAULTED
        if (at[first:stop] != at[first]).any():
            return APART
        if at[first] == DONE or points[at[first]] == BLOCK:
            return FINISHED
        if stop - first != WARP_SIZE:
            return APART  # threads that are not there are waited for


@njit
def follow_block(run, at, points, places, context, backwards):
    n_warps = (len(at) + WARP_SIZE - 1) // WARP_SIZE
    at[:] = 0
    while True:
        for k in range(n_warps):
            first = WARP_SIZE * (n_warps - 1 - k if backwards else k)
            state = follow_warp(run, first, min(first + WARP_SIZE, len(at)), at, points, places, context, backwards)
            if state != FINISHED:
                return state
        if (at != at[0]).any():
            return APART
        if at[0] == DONE:
            return FINISHED
        if follow_threads(run, 0, len(at), at, points, BLOCK, places, context, backwards) == FAULTED:
            return FAULTED


@njit
def follow_grid(run, grid, at, points, threads, context, shared, backwards):
    places = threads.ctypes.data + threads.shape[1] * 8 * np.arange(len(at))
    for k in range(grid[0] * grid[1]):
        block = grid[0] * grid[1] - 1 - k if backwards else k
        shared[:] = POISON
        threads[:] = POISON
        for t in range(len(at)):
            threads[t, 0], threads[t, 1], threads[t, 2] = t, block % grid[0], block // grid[0]
            threads[t, 3], threads[t, 4], threads[t, 5] = grid[0], grid[1], len(at)
        state = follow_block(run, at, points, places, context.ctypes.data, backwards)
        if state != FINISHED:
            return state
    return FINISHED


def run(case, grid, *values, backwards=False, off=0.0):
    """Launch a kernel, as `cuda_launch.launch` does: (make, arguments, threads), with arrays where addresses go.

    `off`, from -1 to 1, is how far approximate instructions are off, as a share of what they may be.
    """
    make, arguments, threads = case
    run_program(built(cuda_ptx.ptx(make, arguments)[0]), grid, threads, *values, backwards=backwards, off=off)


def run_program(made, grid, n_threads, *values, backwards=False, off=0.0):
    """The same of a program, with so many threads a block."""
    kernel = made.kernel
    assert len(values) == len(kernel.parameters)
    kinds = {"u64": np.int64, "u32": np.int64, "f64": np.float64, "f32": np.float32}
    parameters, ranges = np.zeros(len(values), np.int64), []
    for k, (value, kind) in enumerate(zip(values, kernel.parameters, strict=True)):
        if isinstance(value, np.ndarray) and value.ndim:
            assert value.flags.c_contiguous
            ranges.append((value.ctypes.data, value.ctypes.data + value.nbytes))
            value = value.ctypes.data
        elif kind[0] == "u":
            value = int(value) - (2**64 if int(value) >= 2**63 else 0)
        parameters[k : k + 1].view(kinds[kind])[0] = value
    size = max((start + size for start, size in kernel.shared.values()), default=0)
    shared = np.empty(-(-size // 8), np.int64)
    ranges.append((shared.ctypes.data, shared.ctypes.data + size))
    memory = np.array(ranges, np.int64)
    exchange, fault = np.zeros(n_threads, np.int64), np.zeros(1, np.int64)
    threads = np.empty((n_threads, len(SPECIAL) + len(kernel.registers)), np.int64)
    context = np.zeros(len(CONTEXT), np.int64)
    context[:-1] = [array.ctypes.data for array in (parameters, shared, exchange, memory, fault)] + [len(ranges)]
    context[-1:].view(np.float64)[0] = off
    blocks = np.array(grid if isinstance(grid, tuple) else (grid, 1))
    at = np.zeros(n_threads, np.int32)
    state = follow_grid(made.address, blocks, at, made.points, threads, context, shared, backwards)
    if state == FAULTED:
        raise Fault(f"outside of what it is given, not aligned or not of a whole warp: {kernel.body[fault[0]].text}")
    if state == APART:
        raise Fault(f"threads wait at different barriers: {sorted(set(at.tolist()))}")
