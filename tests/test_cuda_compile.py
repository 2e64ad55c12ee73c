"""Kernels for GPUs, compiled where there is none: machine code of each for four architectures, and what is in it.

What the code computes is in tests/test_cuda_ptx.py, what a card would show in the tests marked `gpu`.
"""

import contextlib
import math
import re
from itertools import groupby

import cuda_cases
import numpy as np
import pytest
from cuda.pathfinder import DynamicLibNotFoundError
from cuda_cases import KERNELS, make_implicit
from machine_code import counted, instructions, loops
from numba import types

from fastlam.kernels import cuda_launch, cuda_mean, cuda_ptx
from fastlam.kernels.cuda import cuda
from fastlam.kernels.root import root

ARCHITECTURES = [(7, 5), (8, 0), (9, 0), (10, 0)]
HOPPER = (9, 0)
# Of 65,536 in a multiprocessor: 64 leave room for half of the threads that it can have, 255 for two blocks of 128. The
# first that a name begins with: what GPUs before Hopper may take, and what it and later ones may.
REGISTERS = {"simulate_mean": (255, 240), "mean ": (160, 144), "coefficient_slopes": (64, 72), "": (64, 64)}


def code(name, cc=HOPPER):
    return cuda_launch.cubin(*KERNELS[name], cc)


@pytest.mark.parametrize("cc", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_resources(name, cc):
    """Every kernel compiles; nothing spills, nothing is on a stack, registers and shared memory are bounded."""
    made = code(name, cc)
    assert made.code.startswith(b"\x7fELF")
    assert made.resource(r"(\d+) bytes stack frame") == 0
    assert made.resource(r"(\d+) bytes spill stores") == 0
    assert made.resource(r"(\d+) bytes spill loads") == 0
    bounds = next(bounds for start, bounds in REGISTERS.items() if name.startswith(start))
    assert 0 < made.registers <= bounds[cc >= HOPPER]
    assert (made.shared > 0) == name.startswith(("simulate_mean", "mean"))
    assert made.shared <= 48 * 1024


@pytest.mark.parametrize("name", [name for name in KERNELS if name.startswith("simulate ") and "float32" in name])
def test_paths_in_float32(name):
    """No double precision, four stores for four normals, each of a time: threads side by side write side by side."""
    made = code(name)
    assert not [
        operation for operation, _ in instructions(made.code)[0] if re.match(r"D(ADD|MUL|FMA|SETP)|.*F64", operation)
    ]
    inner = max(loops(made.code), key=len)
    assert inner.count("STG.E") == 4
    assert inner.count("IMAD.WIDE.U32") <= 21  # Philox's own 20: its products are one instruction each; an address
    coefficients = KERNELS[name][1][2]
    assert inner.count("LDG.E.128") == coefficients  # those of four times
    assert inner.count("LDG.E") == 0


# Of a normal, its step and its store: the sketch in the issue took 64 in float32.
PATHS = {"simulate brownian float32": (40, 48), "simulate brownian float64": (64, 92)}


@pytest.mark.parametrize("name", PATHS)
def test_instructions_of_paths(name):
    made, (registers, of_a_normal) = code(name), PATHS[name]
    assert made.registers <= registers
    assert len(max(loops(made.code), key=len)) <= 4 * of_a_normal


NORMALS = pytest.mark.parametrize("name", [*PATHS, "simulate_mean brownian float32", "simulate_mean brownian float64"])


@NORMALS
def test_normals_have_no_branch(name):
    """Nothing stands between four normals across which the compiler could not move instructions."""
    assert not {"BSSY", "BSYNC"} & set(inner_loop(code(name)))


@NORMALS
@pytest.mark.parametrize("cc", ARCHITECTURES, ids=str)
def test_normals_call_no_root(name, cc):
    assert not any("sqrt" in operands for _, operands in instructions(code(name, cc).code)[0])


def make_root(element, real):
    """Nothing but the root: what would be left out of blocks that are not whole ends before it."""

    def take(x, y):
        i = cuda.threadIdx.x
        y[i] = element(x[i])

    R = types.CPointer(getattr(types, real))
    return take, types.void(R, R)


def arithmetic(made):
    """Floating-point operations of the kernel, without what it calls, which stands before it, and their constants."""
    found = []
    for operation, operands in instructions(made.code)[0]:
        if operation == "EXIT":
            break
        if operation.startswith("RET"):
            found = []
        if re.match(r"MUFU|FMUL|FFMA|FADD|DMUL|DFMA|DADD", operation):
            found.append((operation.replace(".FTZ", ""), *re.findall(r"(?<![\w.])[\d.]+\b", operands)))
    return sorted(found)


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("cc", ARCHITECTURES, ids=str)
def test_a_root_is_the_compilers_own(real, cc):
    """Without its branch, and without the slow roots behind that."""
    ours, theirs = (cuda_launch.cubin(make_root, (element, real), 32, cc) for element in (root, math.sqrt))
    assert arithmetic(ours) == arithmetic(theirs)
    assert len(arithmetic(ours)) == {"float32": 5, "float64": 9}[real]
    assert not any(operation.startswith(("BSSY", "CALL")) for operation, _ in instructions(ours.code)[0])
    assert any(operation.startswith("CALL") for operation, _ in instructions(theirs.code)[0])


def inner_loop(made):
    """The instructions of the smallest loop that Philox is in."""
    return min((body for body in loops(made.code) if body.count("IMAD.WIDE.U32") > 15), key=len)


# Registers: 168, 128, 56 leave room for 3, 4, 9 blocks of 128 threads. Instructions: of a normal, its step, its sums.
ONE_PASS = {
    "simulate_mean brownian float32": (56, 45),
    "simulate_mean brownian float32 gradients": (128, 60),
    "simulate_mean float32 every gradient": (168, 68),
    "simulate_mean brownian float64": (80, 88),
    "simulate_mean brownian float64 gradients": (168, 102),
}


@pytest.mark.parametrize("name", ONE_PASS)
def test_one_pass_leaves_room_for_blocks(name):
    made, (registers, of_a_normal) = code(name), ONE_PASS[name]
    assert made.registers <= registers
    assert len(inner_loop(made)) <= 4 * of_a_normal


@pytest.mark.parametrize(("dtype", "most"), [("float32", 12), ("float64", 24)])
def test_products_of_philox_are_one_instruction(dtype, most):
    """High words, all 0, are not added to them: 20 of a block. What is added: exponents, quarter turns, indices."""
    inner = inner_loop(code(f"simulate_mean brownian {dtype}"))
    assert sum(operation.startswith(("VIADD", "IADD3")) for operation in inner) <= most


# Of a pair of normals: 10 for the logarithm, 8 for sine and cosine by Horner's rules, 2 products; of a root; of a step.
PAIR, ROOT, STEP = 20, 2, 1


def test_fused_operations_are_those_of_the_source():
    inner = max(loops(code("simulate brownian float32").code), key=len)
    assert inner.count("FFMA") == 2 * (PAIR + ROOT) + 4 * STEP


@pytest.mark.parametrize(
    "name", ["simulate brownian float32", "simulate_mean brownian float64 gradients", "mean square float32 True"]
)
def test_nothing_is_left_to_contract(name, monkeypatch):
    """Contraction would find nothing in our elements: it is off for those that users write."""
    make, arguments, _ = KERNELS[name]
    before = cuda_ptx.ptx(make, arguments)[0]
    monkeypatch.setattr(cuda_ptx, "_contraction_off", lambda: contextlib.nullcontext([]))
    after = cuda_ptx.ptx.__wrapped__(make, arguments)[0]  # made anew
    assert re.search(r"\b(mul|add)\.f(32|64)", after)
    for real in ("f32", "f64"):
        assert before.count(f"fma.rn.{real}") == after.count(f"fma.rn.{real}")


def test_an_implicit_product_and_sum_stay_two():
    operations = counted(cuda_launch.cubin(make_implicit, (), 32, HOPPER).code)
    assert (operations["FMUL"], operations["FADD"], operations["FFMA"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("name", "together"),
    [
        ("mean square float32 True", 8),
        ("mean square float64 True", 16),
        ("mean call float32", 8),
        ("mean polynomial float32", 2),  # with four slopes to add, the compiler writes out two rows of eight
    ],
)
def test_rows_are_read_by_16_bytes(name, together):
    """All of a thread's in a leaf, which LLVM writes out; of squares so many as let three blocks find room."""
    assert code(name).registers <= 80 or "square" not in name
    reads = [operation for operation, _ in instructions(code(name).code)[0] if operation.startswith("LDG")]
    assert reads.count("LDG.E.128") + reads.count("LDG.E.128.CONSTANT") >= together


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slopes_are_found_together(dtype):
    """All reads of a thread are under way before it writes."""
    kinds = [operation[:3] for operation, _ in instructions(code(f"slope {dtype}").code)[0]]
    runs = groupby(kind for kind in kinds if kind in ("LDG", "STG"))
    assert max(len(list(run)) for kind, run in runs if kind == "LDG") >= cuda_mean.SLOPES


def test_a_kernel_is_compiled_once():
    make, arguments, threads = KERNELS["fold"]
    assert cuda_launch.cubin(make, arguments, threads, HOPPER) is cuda_launch.cubin(make, arguments, threads, HOPPER)


def roomy(name, *rooms):
    """The kernel with these numbers of blocks that shall find room."""
    make, arguments, threads = KERNELS[name]

    def make_roomy(*arguments):
        return *make(*arguments)[:2], *rooms

    return cuda_launch.cubin(make_roomy, arguments, threads, HOPPER)


def test_the_most_blocks_that_find_room_are_kept():
    assert cuda_launch.fitting(roomy("simulate brownian float32").registers, 256) < 6
    assert cuda_launch.fitting(roomy("simulate brownian float32", 5, 6).registers, 256) >= 6


@pytest.mark.parametrize(("name", "rooms"), [("simulate brownian float64", (7,)), ("simulate brownian float32", (6,))])
def test_room_that_costs_too_much_is_not_made(name, rooms, monkeypatch):
    """Spills; more instructions."""
    make, arguments, threads = KERNELS[name]
    text = cuda_ptx.with_room(cuda_ptx.ptx(make, arguments)[0], threads, rooms[0])
    tight = cuda_launch._assembled(text, "-arch=sm_90")
    assert tight.spills == (rooms == (7,))
    monkeypatch.setattr(cuda_launch, "GROWTH", 9.0 if tight.spills else 1.0)
    made = roomy(name, *rooms)
    assert not made.spills
    assert made.registers > tight.registers


@pytest.mark.parametrize("real", ["float32", "float64"])
def test_functions_of_a_library(real):
    """What they keep for large arguments is a function before the kernel, with a stack of its own."""
    made = cuda_launch.cubin(*cuda_cases.mean("sine", real), HOPPER)
    assert made.code.startswith(b"\x7fELF")
    assert 0 < made.registers <= 144
    assert not made.spills


def test_an_assembler_that_says_nothing():
    with pytest.raises(RuntimeError, match="does not say how many registers"):
        cuda_launch.Cubin(b"", "kernel", 0, "nothing").registers  # noqa: B018


def test_words_are_passed_whole():
    assert cuda_launch.word(2**64 - 1).value == np.iinfo(np.uint64).max


@pytest.mark.parametrize("cc", [(7, 0), (99, 9)])
def test_gpus_that_are_not_known(cc):
    make, arguments, threads = KERNELS["fold"]
    with pytest.raises(RuntimeError, match=rf"no kernel is assembled for -arch=sm_{cc[0]}{cc[1]} .*sm_75\) or newer"):
        cuda_launch.cubin(make, arguments, threads, cc)


@pytest.mark.parametrize(
    ("old", "new"),
    [(r"\.version [\d.]+", ".version 99.0"), (r"\bret;", "nothing;")],
    ids=["newer than the assembler", "no PTX"],
)
def test_text_that_is_not_assembled(old, new):
    text = re.sub(old, new, cuda_ptx.ptx(*KERNELS["fold"][:2])[0])
    with pytest.raises(RuntimeError, match=r"(?s)a kernel is not assembled for -arch=sm_90: .*(99\.0|nothing|PTX)"):
        cuda_launch._assembled(text, "-arch=sm_90")


@pytest.mark.parametrize(
    "error",
    [ImportError("libNVVM is not available"), DynamicLibNotFoundError("libnvrtc.so is not available")],
    ids=repr,
)
def test_a_toolkit_that_is_not_found(error, monkeypatch):
    def make():
        return make_implicit()  # another kernel

    def missing(*arguments, **named):
        raise error

    def not_found(*arguments):
        raise RuntimeError("Failure finding libnvJitLink.so")

    monkeypatch.setattr(cuda_ptx.cuda, "compile", missing)
    with pytest.raises(ImportError, match=rf"does not find NVVM or NVRTC.*{error}.*fastlam\[cuda13\].*CUDA_HOME"):
        cuda_launch.cubin(make, (), 64, HOPPER)
    monkeypatch.undo()
    monkeypatch.setattr(cuda_launch.nvjitlink, "create", not_found)
    with pytest.raises(ImportError, match=r"nvJitLink, .*Failure finding.*fastlam\[cuda13\]"):
        cuda_launch.cubin(make, (), 64, HOPPER)


def test_coefficients_of_another_number_are_refused():
    make, (element, n_values, *others), threads = KERNELS["coefficients brownian float32"]
    with pytest.raises(TypeError, match=f"{n_values - 1} values are wanted"):
        cuda_launch.cubin(make, (element, n_values - 1, *others), threads, HOPPER)
