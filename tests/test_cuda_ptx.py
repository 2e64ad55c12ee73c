"""Kernels for GPUs as they are compiled: their PTX, run on the CPU (ptx_machine.py), gives the bits of the CPU."""

import re
import threading

import cuda_simulated
import numpy as np
import ptx_machine
import pytest
from cuda_cases import KERNELS, ONE_PASS, PATHS, PROCESSES, REALS, ROWS, make_after_a_loop, make_implicit, make_roots
from wide_process import Wide

from fastlam.kernels import cuda_launch, cuda_ptx
from fastlam.kernels.cuda import THREADS

TIMES = np.cumsum([0.1, 0.2, 0.15, 0.3, 0.1, 0.2, 0.25])


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def backwards(request, monkeypatch):
    """The order in which threads and blocks run."""

    def run(case, grid, *values):
        ptx_machine.run(case, grid, *values, backwards=request.param)

    monkeypatch.setattr(cuda_simulated, "run", run)


@pytest.mark.parametrize("name", PATHS)
def test_paths(name, backwards):
    """Blocks and parts of them; times that four do not divide."""
    for n, times in ((1, TIMES[:1]), (300, TIMES), (1000, np.arange(1, 41) / 8)):
        cuda_simulated.check_simulate(*PATHS[name], n, times)


@pytest.mark.parametrize("name", ONE_PASS)
def test_one_pass(name, backwards):
    """Leaves and parts of them; of pairs, too."""
    process, functional, real, wanted, antithetic, stderr = ONE_PASS[name]
    for n, times in ((2, TIMES[:1]), (130, TIMES), (2 * 1024 + 300, TIMES[:4])):
        cuda_simulated.check_simulate_mean(process, functional, real, wanted, n, antithetic, stderr, times)


@pytest.mark.parametrize("name", ROWS)
def test_rows(name, backwards):
    for n in (1, 5, 1024, 2100, 70_000):
        functional, real, wanted, aligned = ROWS[name]
        cuda_simulated.check_mean(functional, real, wanted, (2, n), aligned)


def test_elements_that_answer_in_float64(backwards, monkeypatch):
    """Rounded at the same places as on the CPU."""
    monkeypatch.setitem(PROCESSES, "wide", Wide(0.5, 0.7))
    cuda_simulated.check_simulate("wide", "float32", False, 300, TIMES)
    for stderr in (False, True):
        cuda_simulated.check_simulate_mean("wide", "square", "float32", (0, 1, 2), 1100, False, stderr, TIMES)


@pytest.mark.parametrize("case", ["bad input", "bad input unseen", "slopes", "fold"])
def test_others(case, backwards):
    cuda_simulated.CASES[case]()


@pytest.mark.parametrize("real", REALS)
def test_coefficients(real, backwards):
    cuda_simulated.check_coefficients("ornstein_uhlenbeck", real)


def test_numbers():
    values = np.full(9, np.nan)
    ptx_machine.run(KERNELS["numbers"], 1, values, 7, *np.arange(8) / 3)
    assert values[:7].tobytes() == (np.arange(7) / 3).tobytes()
    assert np.isnan(values[7:]).all()


@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize("name", [name for name in PATHS if "brownian" in name])
def test_reciprocals_of_roots_may_be_off(name, off, monkeypatch):
    """By as much as they may be: what is made of them has the same bits."""
    monkeypatch.setattr(cuda_simulated, "run", lambda *launch: ptx_machine.run(*launch, off=off))
    cuda_simulated.check_simulate(*PATHS[name], 5000, TIMES)


@pytest.mark.parametrize("off", [-1, 0, 1])
@pytest.mark.parametrize("real", REALS)
def test_roots(real, off):
    """Of 0 too, in float32, which alone meets it; both words of a float64 count."""
    rng = np.random.default_rng(1)
    ends = [2.0**-40, 2.0**60, 1.0, np.nextafter(1, 0), np.nextafter(1, 2), *([0.0, -0.0] if real == "float32" else [])]
    x = np.append(ends, np.exp2(rng.uniform(-40, 60, 2**16 - len(ends)))).astype(real)
    out = np.full_like(x, np.nan)
    ptx_machine.run((make_roots, (real,), THREADS), x.size // THREADS, x, out, x.size, off=off)
    assert out.tobytes() == np.sqrt(x).tobytes()


def test_values_that_are_wanted_after_a_loop():
    """What nvJitLink made of LTO-IR wrote what the loop had found last; numba's PTX does not."""
    x, out = np.arange(8.0), np.full(8, np.nan)
    ptx_machine.run((make_after_a_loop, (), 4), 1, x, 4, out)
    assert out.tolist() == (x / 4).tolist()


def test_numba_is_left_as_it_was():
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv import nvvm

    def fail():
        with cuda_ptx._for_the_oldest(), cuda_ptx._contraction_off():
            assert dispatcher.get_current_device().compute_capability == cuda_ptx.OLDEST
            assert nvvm.compile_ir is not before[1]
            raise ZeroDivisionError

    before = dispatcher.get_current_device, nvvm.compile_ir
    with pytest.raises(ZeroDivisionError):
        fail()
    assert (dispatcher.get_current_device, nvvm.compile_ir) == before


def test_what_another_thread_compiles_is_its_own(monkeypatch):
    from numba.cuda.cudadrv import nvvm

    def compile_elsewhere():
        with cuda_ptx._contraction_off():
            thread = threading.Thread(target=lambda: nvvm.compile_ir(["theirs"], opt=3))
            thread.start()
            thread.join()

    asked = []
    monkeypatch.setattr(nvvm, "compile_ir", lambda modules, **options: asked.append((modules, options)))
    with pytest.raises(RuntimeError, match="contraction"):  # nobody asked here
        compile_elsewhere()
    assert asked == [(["theirs"], {"opt": 3})]


def test_contraction_that_is_not_off_is_found(monkeypatch):
    def make():
        return make_implicit()  # another kernel

    monkeypatch.setattr(cuda_ptx.cuda, "compile", lambda *arguments, **named: ["text"])
    with pytest.raises(RuntimeError, match="contraction"):
        cuda_ptx.ptx(make, ())


def test_numpy_without_row_stack(monkeypatch):
    """NumPy 2.5, which numba-cuda imports what it does not have of."""
    monkeypatch.delattr(np, cuda_ptx.ROW_STACK, raising=False)
    with cuda_ptx._row_stack():
        assert getattr(np, cuda_ptx.ROW_STACK) is np.vstack
    assert not hasattr(np, cuda_ptx.ROW_STACK)


@pytest.mark.parametrize("name", KERNELS)
def test_text(name):
    """It flushes nothing, approximates nothing, calls nothing; no path in float32 widens.

    The start of a root is apart, whose numbers are none to flush.
    """
    text = re.sub(r"\brsqrt\.approx\.ftz\.", "", cuda_ptx.ptx(*KERNELS[name][:2])[0])
    assert ".target sm_75\n" in text
    assert not re.search(r"\.ftz\.|\.approx\.|\.rz\b|\bcall\b", text)
    if name in PATHS and "float32" in name:
        assert ".f64" not in text


def test_room_is_said_to_the_assembler():
    make, arguments, threads = KERNELS["fold"]
    text = cuda_ptx.with_room(cuda_ptx.ptx(make, arguments)[0], threads, 3)
    assert ".maxntid 256, 1, 1\n.minnctapersm 3\n{" in text
    with pytest.raises(RuntimeError, match="not of the form"):
        cuda_ptx.with_room("text", threads, 3)


@pytest.mark.parametrize(("registers", "threads", "blocks"), [(32, 256, 8), (33, 256, 6), (96, 128, 5), (255, 128, 2)])
def test_blocks_that_fit(registers, threads, blocks):
    assert cuda_launch.fitting(registers, threads) == blocks
