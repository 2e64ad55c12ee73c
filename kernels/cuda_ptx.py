"""Kernels for NVIDIA GPUs as PTX: numba's, with contraction off, for the oldest GPU, so for all that came after.

A product and a sum are fused where `fma` says so and nowhere else, whatever elements users write. Not LTO-IR: nvJitLink
13.0 and 13.5 take another value for one that is wanted after a loop (`make_after_a_loop` in tests/cuda_cases.py).
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from cuda.pathfinder import DynamicLibNotFoundError

from .cuda import cuda
from .launch import once
from .refusal import elements, names, raises, refusal

REMEDY = (
    'pip install "fastlam[cuda13]" (or [cuda12]), or set CUDA_HOME to a CUDA toolkit, 12.3 or newer, that has nvvm/'
)
OLDEST = (7, 5)
ROW_STACK = "row_stack"
HEAD = re.compile(r"(\.entry\s[^{]*?^\))\s*\{", re.MULTILINE)  # of the kernel, which functions may stand before
ENVIRONMENTS = re.compile(r"^\.common \.global .* _ZN08NumbaEnv\w+;\n", re.MULTILINE)  # which nothing reads
LOSES_NAN = re.compile(r"\b__nv_f(max|min)f?\b")  # as numba writes them; NVVM makes such of selections that lose none


@once
def ptx(make: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, tuple[int, ...]]:
    """The kernel that `make(*arguments)` describes, and the numbers of its blocks that shall find room.

    TypeError for elements that do not compile, or would not do there what they do on the CPU.
    """
    for element in elements(arguments):
        if raises(element):
            raise TypeError(f"the element {names([element])} raises, of which no GPU tells: have it return NaN instead")
    function, signature, *rooms = make(*arguments)
    named = {"cc": OLDEST, "device": False, "abi": "numba", "output": "ptx"}
    with _row_stack(), _for_the_oldest(), _contraction_off() as modules:
        try:
            text = cuda.compile(function, signature, **named)[0]
        except (ImportError, DynamicLibNotFoundError) as error:
            raise ImportError(f"numba-cuda does not find NVVM or NVRTC, the toolkit's ({error}): {REMEDY}") from error
        except Exception as error:  # of numba's, which has no one root
            raise TypeError(refusal(arguments, error)) from error
    if any(LOSES_NAN.search(module) for module in modules):
        lost = "max or min of two floats, which lose NaN on GPUs: fastlam.kernels.selection has maximum and minimum"
        raise TypeError(f"one of the elements {names(arguments)} calls {lost}")
    return ENVIRONMENTS.sub("", text), tuple(rooms)


def with_room(text: str, threads: int, blocks: int) -> str:
    """A kernel's text for blocks of so many threads, of which so many shall find room in a multiprocessor.

    That is said to the assembler alone: NVVM, where it hears of it, makes a tenth more instructions of some kernels.
    """
    bounded, count = HEAD.subn(rf"\1\n.maxntid {threads}, 1, 1\n.minnctapersm {blocks}\n{{", text)
    if count != 1:
        raise RuntimeError("PTX of a kernel is not of the form that numba-cuda gives: take another version of it")
    return bounded


@contextlib.contextmanager
def _contraction_off() -> Iterator[list[str]]:
    """What this thread compiles meanwhile, given to NVVM, which has an option for it that numba has not.

    RuntimeError if NVVM was given nothing.
    """
    from numba.cuda.cudadrv import nvvm  # now: numba's simulator has none

    compile_ir, seen = nvvm.compile_ir, list[str]()

    def uncontracted(modules: Any, **options: Any) -> Any:
        seen.extend(modules)
        return compile_ir(modules, **options | {"fma": False})

    with _stand_in(nvvm, "compile_ir", uncontracted):
        yield seen
    if not seen:
        raise RuntimeError("this numba-cuda does not let contraction be turned off: take another version of it")


def _for_the_oldest() -> contextlib.AbstractContextManager[None]:
    """What a kernel calls is compiled as it is: numba-cuda would ask the driver which GPU is in use."""
    from numba.cuda import dispatcher

    return _stand_in(dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=OLDEST))


@contextlib.contextmanager
def _stand_in(module: ModuleType, name: str, ours: Callable[..., Any]) -> Iterator[None]:
    """Where this thread calls the module's function meanwhile, it gets ours."""
    theirs, thread = getattr(module, name), threading.get_ident()

    def either(*arguments: Any, **named: Any) -> Any:
        return (ours if threading.get_ident() == thread else theirs)(*arguments, **named)

    setattr(module, name, either)
    try:
        yield
    finally:
        setattr(module, name, theirs)


@contextlib.contextmanager
def _row_stack() -> Iterator[None]:
    """NumPy 2.5 has it no more; numba-cuda, up to 0.30, names it when it first compiles."""
    missing = not hasattr(np, ROW_STACK)
    if missing:
        setattr(np, ROW_STACK, np.vstack)
    try:
        yield
    finally:
        if missing:
            delattr(np, ROW_STACK)
