"""The benchmarks for cards, once, tiny, on the CPU: their code runs, their checks catch, targets find their rows."""

import dataclasses
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from cupy_stand_in import cupy

from bench.card import calls, checks, limits, one_pass, paths, profiled, rows, sanitize, square, targets, words
from bench.card.launches import Launches
from bench.card.place import trial
from bench.card.row import LIMITS, Row, measured
from bench.processes import PROCESSES
from fastlam.kernels import cuda_launch

PLACE = dataclasses.replace(trial(), cupy=cupy)


@pytest.fixture(scope="module")
def records():
    """All rows, those by process of the one whose kernels others compile too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_pass, "PROCESSES", {"Brownian": PROCESSES["Brownian"]})
        patch.setattr(one_pass, "WITH_GRADIENTS", ("Brownian",))
        told = []
        found = rows.measure(PLACE, float("inf"), told.append)
    assert told == found
    return found


def test_every_row_has_a_right_answer(records):
    assert [rows.line(record) for record in records if record["state"] != "timed"] == []
    assert len(records) == 36
    assert {record["group"] for record in records} == {
        *(LIMITS, *one_pass.ONE_PASS.values(), one_pass.GRADIENTS, one_pass.BY_PROCESS, one_pass.BY_PROCESS_BACKWARD),
        *(square.LARGE, square.SMALL, paths.PATHS, paths.PATHS_64, paths.NORMALS),
    }


def test_every_target_finds_its_rows(records):
    """But the one under a CUDA graph, which the CPU has not."""
    without = [target.what for target in targets.TARGETS if target.measured(records) is None]
    assert without == [f"{square.SMALL}, under a CUDA graph"]


@pytest.mark.parametrize(
    ("spoil", "group"),
    [
        (lambda x: x * 1.02, paths.paths),
        (lambda x: x.flip(1), paths.paths),
        (lambda x: x + 0.1, paths.normals),
        (lambda x: torch.full_like(x, torch.nan), paths.normals),
    ],
)
def test_a_wrong_simulation_has_no_speed(spoil, group, monkeypatch):
    real = paths.fastlam.simulate
    monkeypatch.setattr(
        paths, "fastlam",
        SimpleNamespace(Brownian=paths.fastlam.Brownian, simulate=lambda *a, **k: spoilt(real, spoil, *a, **k)),
    )  # fmt: skip
    record = measured(next(row for row in group(PLACE) if row.ours), PLACE, {})
    assert (record["state"], "stats" in record) == ("wrong", False)
    assert rows.faults([record]) == [rows.line(record)]


def spoilt(simulate, spoil, process, times, n, **named):
    """That of the CPU, which is asked for few paths, is right."""
    x = simulate(process, times, n, **named)
    return x if n == paths.FEW else spoil(x)


def test_checks_refuse_what_is_off():
    times = PLACE.times()
    x = torch.randn(16, 10_000, generator=torch.Generator().manual_seed(1)).mul_(0.2 / 250**0.5).add_(0.05 / 250)
    checks.check_paths(x.cumsum(0), times)
    for wrong in (x.cumsum(0) * 1.05, x.cumsum(0) + 0.01, x, x.cumsum(0).roll(1, 0)):
        with pytest.raises(AssertionError, match=r"standard errors|correlation"):
            checks.check_paths(wrong, times)
    k = x.cumsum(0).double().square().mean(1)
    checks.check_means(k, times, 10_000)
    for wrong in (k * 1.1, k * float("nan")):
        with pytest.raises(AssertionError, match="standard errors"):
            checks.check_means(wrong, times, 10_000)


def test_a_wrong_gradient_has_no_speed():
    x = torch.ones(4, 10)
    square.checked(square.eager, x, 4.0)
    with pytest.raises(AssertionError, match=r"off by 0\.01"):
        square.checked(lambda x, lam: 1.01 * square.eager(x, lam), x, 4.0)


def test_faults_of_baselines_are_told_and_are_no_failure():
    def missing():
        raise ImportError("no such thing")

    def wrong():
        raise AssertionError("off")

    for make, state in ((missing, "failed"), (wrong, "wrong")):
        ours, other = (measured(Row("a", "b", make, ours=mine), PLACE, {}) for mine in (True, False))
        assert (ours["state"], other["state"]) == (state, "left out")
        assert ours["why"] == other["why"]
        assert (len(rows.faults([ours])), rows.faults([other])) == (1, [])


def test_rows_that_begin_after_the_budget_are_left_out(monkeypatch):
    clock = iter(range(100))

    def group(place):
        for name in "abcd":
            yield Row("g", name, lambda: lambda: None, ours=True)

    monkeypatch.setattr(rows, "GROUPS", (group, group))
    found = rows.measure(PLACE, 3.0, lambda record: None, now=lambda: next(clock))  # 0: start, 1: group, 2, 3: a, b
    assert [record["state"] for record in found] == ["timed", "timed", "left out", "left out", "left out"]
    assert rows.line(found[-1]) == "group: all rows: left out: the 3 s of the benchmarks were used up"
    assert rows.faults(found) == []


def test_a_group_that_cannot_begin_is_a_fault(monkeypatch):
    def group(place):
        raise MemoryError("16 GB")
        yield

    monkeypatch.setattr(rows, "GROUPS", (group,))
    assert rows.faults(rows.measure(PLACE, 1e9, lambda record: None)) == ["group: all rows: failed: MemoryError: 16 GB"]


def test_sizes_are_halved_until_they_fit(monkeypatch):
    monkeypatch.setattr(type(PLACE), "free", lambda self: 40e9)
    assert PLACE.fitting(2**24, 1024) == (2**24, "")
    assert PLACE.fitting(2**24, 2560) == (2**23, "n = 8,388,608: 42.9 GB do not fit")


def test_philox_alone_in_the_simulator():
    """Its words are the specification's, none beyond the last path is written; a thread is a system's thread."""
    program = """
import numpy as np
from numba import cuda
from bench.card import words
from bench.card.limits import check_words
out = np.full(303, 2**64 - 1, np.uint64)
cuda.jit(words.make_words()[0])[2, words.THREADS](out, 300, 3, np.uint64(words.SEED), np.uint64(0))
check_words(out[:300], 3)
assert (out[300:] == 2**64 - 1).all()
"""
    env = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_philox_alone_is_compiled_to_little_else():
    made = cuda_launch.cubin(words.make_words, (), words.THREADS, (9, 0))
    assert made.resource(r"Used (\d+) registers") <= 32  # all threads that a multiprocessor can hold
    assert made.resource(r"(\d+) bytes spill stores") == 0


def test_wrong_words_are_seen():
    with pytest.raises(AssertionError):
        limits.check_words(torch.zeros(3, dtype=torch.int64).numpy(), 2)


@pytest.fixture
def launched(monkeypatch):
    """What is launched; nothing runs."""
    seen = []

    def launch(make, arguments, device, stream, grid, threads, *values):
        seen.append((make, grid, values))

    monkeypatch.setattr(cuda_launch, "launch", launch)
    return seen


def ask(n_blocks):
    cuda_launch.launch(words.make_words, (), 0, 0, 5, words.THREADS, 1, 2, n_blocks)


def test_launches_are_seen_and_made(launched):
    before = cuda_launch.launch
    with Launches(PLACE.clock).watched() as seen:
        ask(3)
        ask(4)
    assert cuda_launch.launch is before
    assert [values for _, _, values in launched] == [(1, 2, 3), (1, 2, 4)]
    assert [(one.name, one.threads, one.device, one.arguments) for one in seen] == [("words", words.THREADS, 0, ())] * 2
    for one in seen:
        assert one.start <= one.end
        assert one.host > 0


def test_launches_of_the_package_are_those_that_are_watched():
    """`cuda_launch.launch` names what the profile asks it for."""
    import inspect

    assert {"make", "arguments", "device", "threads"} <= set(inspect.signature(cuda_launch.launch).parameters)


def test_profile_of_a_call(launched, monkeypatch):
    call = calls.Call("two launches", lambda problem: lambda: (ask(1), ask(1)), "words", 1, 2)
    monkeypatch.setattr(profiled, "CALLS", {"some": call})
    found = profiled.profiled(PLACE, "some", "Brownian", 64, 8, "float32", 5, {limits.COPYING: 1.0})
    (kernel,) = found["kernels"]
    assert (kernel["kernel"], kernel["launches"], kernel["spills"]) == ("words", "2", "0 B")
    assert 0 < int(kernel["registers"]) <= 32
    assert float(kernel["GB/s"]) == pytest.approx(2 * 64 * 8 * 4 / kernel["seconds"] / 1e9, rel=1e-3)  # 4 digits
    assert kernel["of copying"].endswith("%")
    assert kernel["of Philox"] == ""  # not measured here
    assert found["about"].startswith("two launches of Brownian float32, n = 64, m = 8; ")


def test_a_profile_without_launches_says_so():
    with pytest.raises(RuntimeError, match="no launch was seen"):
        profiled.profiled(PLACE, "mean", "Brownian", 64, 8, "float32", 2, {})  # on the CPU


@pytest.mark.parametrize("name", calls.CALLS)
def test_calls_of_the_profile_run(name):
    calls.CALLS[name].make(calls.Problem("Brownian", 100, 8, "float32", "cpu"))()


def test_what_the_sanitizer_watches_runs(monkeypatch):
    monkeypatch.setattr(sanitize, "ANSWERS", ((torch.float32, False),))
    assert all(answer.isfinite().all() for _, answer in sanitize.answers("cpu"))
