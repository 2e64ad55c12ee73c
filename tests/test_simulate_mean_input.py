"""simulate_mean: bad input, progress, interruption, warnings, and memory that does not grow with paths."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from simulate_mean_cases import PROCESS, TIMES, TORCH_TIMES, leaf

import fastlam
from fastlam import one_pass

NAN = float("nan")


def call(**changes):
    """A sound call but for `changes`; simulate_mean_square unless a functional is among them."""
    names = {"process": PROCESS, "times": TIMES, "n_paths": 4, "seed": 1, **changes}
    return (fastlam.simulate_mean if "functional" in names else fastlam.simulate_mean_square)(**names)


STREAM = [
    ({"n_paths": 0}, ValueError, "n_paths|at least 1|0"),
    ({"n_paths": -3}, ValueError, "n_paths|at least 1|-3"),
    ({"n_paths": 2**40 + 1}, ValueError, f"n_paths|below {2**40 + 1}"),
    ({"n_paths": 2.0}, TypeError, "n_paths|integer|2.0"),
    ({"n_paths": True}, TypeError, "n_paths|integer|True"),
    ({"n_paths": None}, TypeError, "n_paths|integer|None"),
    ({"seed": None}, TypeError, "seed|integer|None"),
    ({"seed": 1.0}, TypeError, "seed|integer|1.0"),
    ({"seed": "7"}, TypeError, "seed|integer|'7'"),
    ({"seed": -1}, ValueError, "seed|at least 0|-1"),
    ({"seed": 2**64}, ValueError, "seed|below 2**64"),
    ({"first_path": -1}, ValueError, "first_path|at least 0|-1"),
    ({"first_path": 0.5}, TypeError, "first_path|integer|0.5"),
    ({"first_path": 2**64 - 3}, ValueError, "first_path|2**64|18446744073709551617"),
    ({"antithetic": 1}, TypeError, "antithetic|True or False|1"),
    ({"dtype": "float16"}, TypeError, "dtype|float32 or float64|float16"),
    ({"dtype": torch.bfloat16}, TypeError, "dtype|float32 or float64|bfloat16"),
    ({"dtype": int}, TypeError, "dtype|float32 or float64|int"),
]
TIME_GRIDS = [
    ([1.0, 2.0], TypeError, "NumPy array, a torch tensor|list"),
    (np.array([]), ValueError, "at least one|(0,)"),
    (np.ones((2, 2)), ValueError, "1-D|(2, 2)"),
    (np.array([True]), TypeError, "bool|float32, float64"),
    (TIMES.astype(np.float16), TypeError, "float16|float32, float64"),
    (np.ma.masked_array(TIMES), TypeError, "masked"),
    (np.array([0.5, NAN]), ValueError, "finite|times[1] = nan"),
    (np.array([-1.0, 1.0]), ValueError, "at least 0|times[0] = -1"),
    (np.array([0.5, 2.0, 1.0]), ValueError, "strictly increasing|times[2] = 1.0|times[1] = 2.0|sort a batch"),
    (np.array([1, 1]), ValueError, "strictly increasing|times[1] = 1|sort a batch"),
    (torch.tensor([2, 1]), ValueError, "strictly increasing|times[1] = 1|sort a batch"),
    (TORCH_TIMES.flip(0), ValueError, "strictly increasing|times[1] = 1|sort a batch"),
    (leaf([0.5, 1.0]), TypeError, "requires grad|times.detach()"),
    (TORCH_TIMES.to("meta"), ValueError, "times is on meta"),
    (TORCH_TIMES.to_sparse(), TypeError, "layout|times.to_dense()"),
]
OTHERS = [
    ({"process": fastlam.Brownian}, TypeError, "process|fastlam.Brownian"),
    ({"process": None}, TypeError, "process|None"),
    ({"functional": "x**2"}, TypeError, "functional|fastlam.Square|'x**2'"),
    ({"functional": fastlam.Square}, TypeError, "functional|fastlam.Square"),
    ({"process": fastlam.Brownian(mu=torch.tensor(0.1))}, TypeError, "NumPy|a tensor|torch.as_tensor(times)"),
    ({"lam": torch.tensor(0.1)}, TypeError, "NumPy|a tensor|torch.as_tensor(times)"),
    ({"functional": fastlam.Polynomial(torch.ones(2))}, TypeError, "NumPy|a tensor|torch.as_tensor(times)"),
    ({"lam": np.ones(2)}, ValueError, "lam|(2,)|(3,)"),
    ({"lam": np.ones((1, 3))}, ValueError, "lam|(1, 3)|(3,)"),
    ({"lam": "1"}, TypeError, "lam|number|str"),
    ({"lam": None}, TypeError, "lam|number|NoneType"),
    ({"lam": 1j}, TypeError, "lam|number|complex"),
    ({"lam": np.ones(3, complex)}, TypeError, "lam|complex128|real"),
    ({"lam": 10**400}, ValueError, "lam|1.8e308"),
    ({"times": TORCH_TIMES, "lam": torch.ones(2)}, ValueError, "lam|(2,)|(3,)"),
    ({"times": TORCH_TIMES, "lam": torch.ones(3).to_sparse()}, TypeError, "lam|layout|to_dense()"),
    ({"times": TORCH_TIMES, "lam": torch.ones(3, device="meta")}, ValueError, "lam|meta"),
    (
        {"times": TORCH_TIMES, "process": fastlam.Brownian(torch.ones((), device="meta"))},
        ValueError,
        "times is on cpu|mu|meta",
    ),
    ({"antithetic": True, "return_stderr": True, "n_paths": 5}, ValueError, "n_paths|even|pairs"),
    ({"antithetic": True, "return_stderr": True, "first_path": 1}, ValueError, "first_path|even|pairs"),
    ({"return_stderr": 1}, TypeError, "return_stderr|True or False|1"),
    ({"return_stderr": None}, TypeError, "return_stderr|True or False|None"),
    ({"progress": 3}, TypeError, "progress|callable|3"),
    ({"progress": "bar"}, TypeError, "progress|callable|'bar'"),
]


def assert_refused(changes, kind, words):
    name = "simulate_mean: " if "functional" in changes else "simulate_mean_square: "
    with pytest.raises(kind) as caught:
        call(**changes)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(name)
    for word in words.split("|"):
        assert word in str(caught.value)


@pytest.mark.parametrize(("changes", "kind", "words"), STREAM + OTHERS, ids=lambda case: str(case)[:40])
def test_refused(changes, kind, words):
    assert_refused(changes, kind, words)


@pytest.mark.parametrize(("times", "kind", "words"), TIME_GRIDS)
def test_times_refused(times, kind, words):
    assert_refused({"times": times}, kind, words)
    assert_refused({"times": times, "functional": fastlam.Square()}, kind, words)


@pytest.mark.parametrize(("name", "value", "words"), [("mu", NAN, "finite|nan"), ("sigma", -0.5, "at least 0|-0.5")])
def test_values_of_tensors_are_checked_where_they_are_used(name, value, words):
    tensor = torch.tensor(0.5)
    process = fastlam.Brownian(**{name: tensor})
    tensor.fill_(value)
    with pytest.raises(ValueError, match=f"simulate_mean_square: {name}") as caught:
        call(process=process, times=TORCH_TIMES)
    assert all(word in str(caught.value) for word in words.split("|"))


@pytest.mark.parametrize("function", [fastlam.simulate, fastlam.simulate_mean_square], ids=lambda f: f.__name__)
def test_steps_that_leave_float32_are_refused(function):
    process = fastlam.Brownian(mu=1e39)
    with pytest.raises(
        ValueError, match=rf"^{function.__name__}: the coefficients of the step to times\[0\] = 0.5 are"
    ):
        function(process, TIMES, 2, seed=1, dtype="float32")


@pytest.mark.parametrize("times", [TIMES, TORCH_TIMES], ids=["numpy", "torch"])
def test_progress(times, monkeypatch):
    """Paths done, ever more of them, the last time all."""
    monkeypatch.setattr(one_pass, "SLAB_CHUNKS", 1)  # as seldom as each half second without
    n, calls = 10_000_000, []
    k = call(times=times, n_paths=n, progress=lambda *now: calls.append(now))
    done = [paths for paths, _ in calls]
    assert len(done) > 1
    assert done == sorted(set(done))
    assert calls[-1] == (n, n)
    assert {total for _, total in calls} == {n}
    assert bool((k == call(times=times, n_paths=n)).all())


@pytest.mark.parametrize("times", [TIMES, TORCH_TIMES], ids=["numpy", "torch"])
def test_progress_that_simulates(times):
    """Its own simulations are its own affair: it is not told of them, without end."""
    calls, inner = [], []

    def progress(*now):
        calls.append(now)
        assert len(calls) == 1
        fastlam.simulate_mean_square(PROCESS, times, 300, seed=1)
        fastlam.simulate_mean_square(PROCESS, times, 400, seed=1, progress=lambda *now: inner.append(now))

    call(times=times, n_paths=500, progress=progress)
    assert calls == [(500, 500)]
    assert inner == [(400, 400)]


class StopError(Exception):
    pass


@pytest.mark.parametrize("times", [TIMES, TORCH_TIMES], ids=["numpy", "torch"])
def test_interrupted(times):
    """2**40 paths start at once; what progress raises comes out as it was raised, and the next call is whole."""
    calls, stop = [], StopError("enough")

    def progress(done, total):
        calls.append((done, total))
        raise stop

    with pytest.raises(StopError) as caught:
        call(times=times, n_paths=2**40, progress=progress)
    assert caught.value is stop
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert len(calls) == 1
    assert 0 < calls[0][0] < 2**40
    assert bool((call(times=times, n_paths=3000) == call(times=times, n_paths=3000)).all())
    assert len(calls) == 1


@pytest.mark.parametrize("times", [TIMES, TORCH_TIMES], ids=["numpy", "torch"])
def test_mean_that_is_not_finite(times):
    """Paths start at 2.5 and take the logarithm of what is above 2: at the first time all are real, later not all."""
    process = fastlam.Diffusion("log(x - 2)", "1", {"x0": 2.5})
    words = r"^simulate_mean_square: the mean at times\[1\] = 1 is nan: the first that is not finite"
    with pytest.warns(RuntimeWarning, match=words) as caught:
        k = call(process=process, times=times, n_paths=1000)
    assert [warning.filename for warning in caught] == [__file__]
    assert np.isfinite(np.asarray(k)).tolist() == [True, False, False]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(process=process, times=times[:1], n_paths=1000)


@pytest.mark.parametrize("times", [np.ones(1, np.float32), torch.ones(1)], ids=["numpy", "torch"])
def test_mean_beyond_float32(times):
    with pytest.warns(RuntimeWarning, match=r"the mean at times\[0\] = 1 is inf: the first") as caught:
        k = call(process=fastlam.Brownian(0.0, 1.0, 1e30), times=times)
    assert len(caught) == 1
    assert np.isinf(np.asarray(k)).all()


@pytest.mark.parametrize("times", [np.ones(1), torch.ones(1, dtype=torch.float64)], ids=["numpy", "torch"])
def test_standard_error_beyond_float64(times):
    """Its squares are of the order of 1e360."""
    words = r"^simulate_mean_square: the standard error at times\[0\] = 1 is nan: squares of the functional are beyond"
    with pytest.warns(RuntimeWarning, match=words) as caught:
        k, stderr = call(process=fastlam.Brownian(0.0, 1e90), times=times, n_paths=1000, return_stderr=True)
    assert len(caught) == 1
    assert np.isfinite(np.asarray(k)).all()
    assert np.isnan(np.asarray(stderr)).all()


def test_warning_under_a_transform_points_to_its_user():
    """However many frames of torch's lie between."""

    def k(mu):
        return fastlam.simulate_mean_square(fastlam.Brownian(mu, 1e200), TORCH_TIMES, 10, seed=1)

    with pytest.warns(RuntimeWarning, match=r"the mean at times\[0\] = 0.5 is inf") as caught:
        torch.func.vmap(k)(torch.zeros(2, dtype=torch.float64))
    assert {warning.filename for warning in caught} == {__file__}


PROGRAM = """
import resource, sys
import numpy as np, fastlam

process, times = fastlam.Brownian(), np.arange(1, 257) / 256
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fastlam.simulate_mean_square(process, times, int(sys.argv[1]), seed=1, dtype="float32")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="waits for another way to read a process's peak of memory")
def test_memory_does_not_grow_with_paths():
    """In MB above the imports: the compiler and a slab of sums, of 64 MB at most; the paths would be 2 GB."""
    grown = []
    for n in (200_000, 2_000_000):
        child = subprocess.run([sys.executable, "-c", PROGRAM, str(n)], capture_output=True, text=True, check=True)
        grown.append(float(child.stdout))
    assert max(grown) < 200
    assert abs(grown[1] - grown[0]) < 32
