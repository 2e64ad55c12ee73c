"""The command line: what it writes and prints, and that every failure is one line and an exit code."""

import ctypes
import inspect
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

import fastlam
from fastlam import cli, commands, info, options
from fastlam.data import load_paths, save_paths

SMALL = ("--n-paths", "200", "--n-times", "50", "--epochs", "3")
FASTLAM = (sys.executable, "-c", "from fastlam.cli import main; main()")


@pytest.fixture
def fastlam_(capsys, tmp_path, monkeypatch):
    """Run `fastlam ARGUMENTS` in an empty folder; return (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def table(stdout: str) -> dict[str, str]:
    pairs = (re.split(r"\s{2,}", line.strip()) for line in stdout.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def written(folder: Path) -> dict:
    return json.loads((folder / "fit.json").read_text())


def command(name: str):
    return typer.main.get_command(commands.app).commands[name]


def test_without_options_the_source_problem_is_solved(fastlam_, tmp_path):
    code, stdout, stderr = fastlam_("fit")
    assert (code, stderr) == (0, "")
    assert "20,000 paths x 1,000 times; Adam, 20 epochs in batches of 32" in stdout
    shown = table(stdout)
    assert float(shown["true lam"]) == 0.25
    assert float(shown["trained lam"]) == pytest.approx(0.25, abs=1e-4)
    assert float(shown["closed-form lam"]) == pytest.approx(0.25, abs=1e-6)
    assert {"standard error", "hold-out loss", "largest stable lr (sgd)", "lr", "trained - closed form"} <= set(shown)
    assert {f"seconds: {part}" for part in ("simulate", "means", "train", "draw")} <= set(shown)
    assert stdout.endswith("wrote fit.json fit.png\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit.json", "fit.png"]


def test_fit_json_and_png(fastlam_, tmp_path):
    code, stdout, _ = fastlam_("fit", *SMALL, "--out", "a/b")
    assert code == 0
    assert "wrote a/b/fit.json a/b/fit.png" in stdout
    fields = written(tmp_path / "a" / "b")
    assert set(fields) == {*fastlam.FitResult.__dataclass_fields__, "true_lam", "fastlam"}
    assert fields["true_lam"] == 0.25
    assert set(fields["seconds"]) == {"simulate", "means", "train", "draw"}
    assert len(fields["means"]) == len(fields["targets"]) == 50
    assert len(fields["history"]["lam"]) == 3
    picture = (tmp_path / "a" / "b" / "fit.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) > 20_000
    width, height = (int.from_bytes(picture[i : i + 4], "big") for i in (16, 20))
    assert width > 900
    assert height > 600


def test_every_option_of_fit(fastlam_, tmp_path, monkeypatch):
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    code, stdout, stderr = fastlam_(
        "fit", "--n-paths", 300, "--n-times", 40, "--horizon", 2, "--mu", 0.1, "--sigma", 0.5, "--x0", 1.5,
        "--true-lam", 0.75, "--noise", 0.01, "--dtype", "float64", "--seed", 9, "--lam0", 0.5, "--optimizer", "SGD",
        "--lr", "1/50", "--epochs", 7, "--batch-size", 5, "--holdout", 0.5, "--threads", 2, "--out", "there", "--debug",
    )  # fmt: skip
    assert (code, stderr) == (0, "")
    times = np.arange(1, 41) * (2 / 40)
    x = fastlam.simulate(fastlam.Brownian(mu=0.1, sigma=0.5, x0=1.5), times, 300, seed=9)
    k = fastlam.mean_square(x, 0.75) * (1 + 0.01 * np.random.default_rng(9).standard_normal(40))
    same = fastlam.fit(x, k, lam0=0.5, optimizer="sgd", lr=0.02, epochs=7, batch_size=5, holdout=0.5, seed=9)
    fields = written(tmp_path / "there")
    expected = json.loads(same.to_json())
    assert {name: fields[name] for name in expected if name != "seconds"} == {
        name: value for name, value in expected.items() if name != "seconds"
    }
    assert fields["true_lam"] == 0.75
    assert threads == [2]
    assert "SGD, 7 epochs in batches of 5" in stdout


def test_fit_has_options_for_the_arguments_of_fit(fastlam_):
    """By the same names, with the same defaults; x and k are files, progress is the bar."""
    arguments = inspect.signature(fastlam.fit).parameters
    parameters = {parameter.name: parameter for parameter in command("fit").params}
    for name in set(arguments) - {"x", "k", "progress"}:
        assert parameters[name].opts == [f"--{name.replace('_', '-')}"]
        assert parameters[name].default == arguments[name].default
    code, stdout, _ = fastlam_("fit", "--help")
    assert code == 0
    for parameter in parameters.values():
        assert parameter.opts[0] in stdout
        assert parameter.name == "help" or parameter.help in stdout


def test_simulate_has_options_for_the_arguments_of_simulate(fastlam_):
    arguments = inspect.signature(fastlam.simulate).parameters
    names = {parameter.name for parameter in command("simulate").params}
    assert set(arguments) - {"process", "times"} <= names
    assert set(inspect.signature(fastlam.Brownian).parameters) <= names
    code, stdout, _ = fastlam_("simulate", "--help")
    assert code == 0
    assert all(f"--{name.replace('_', '-')}" in stdout for name in names)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet"])
@pytest.mark.parametrize("layout", ["times-by-paths", "paths-by-times"])
def test_from_simulate_to_fit_through_files(fastlam_, tmp_path, suffix, layout):
    shape = ("--n-paths", 100, "--n-times", 20)
    code, stdout, stderr = fastlam_("simulate", *shape, "--out", f"x{suffix}", "--layout", layout, "--seed", 3)
    assert (code, stderr) == (0, "")
    assert f"x{suffix}: 20 times x 100 paths, float32, {layout}, " in stdout
    x = load_paths(f"x{suffix}", layout)
    save_paths(f"k{suffix}", 0.25 * np.mean(np.square(x, dtype=float), axis=1, keepdims=True))
    code, stdout, _ = fastlam_("fit", "--paths", f"x{suffix}", "--targets", f"k{suffix}", "--layout", layout)
    assert code == 0
    assert "true lam" not in stdout
    assert "100 paths x 20 times" in stdout
    fields = written(tmp_path)
    assert fields["closed_form"] == pytest.approx(0.25, rel=1e-9)
    assert fields["true_lam"] is None
    assert set(fields["seconds"]) == {"read", "means", "train", "draw"}


@pytest.mark.parametrize("layout", ["times-by-paths", "paths-by-times"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("steps", [("--dt", "1/8"), ("--dt", 0.125), ("--horizon", 1.25)])
def test_simulate_writes_what_the_function_returns(fastlam_, monkeypatch, suffix, layout, steps):
    monkeypatch.setattr(commands, "SLICE", 1000)  # 100 paths at a time
    code, _, _ = fastlam_(
        "simulate", "--out", f"x{suffix}", "--n-paths", 250, "--n-times", 10, *steps, "--mu", 0.5, "--sigma", 2,
        "--x0", -1, "--seed", 2**63 + 5, "--first-path", 7, "--antithetic", "--dtype", "float64", "--layout", layout,
    )  # fmt: skip
    assert code == 0
    process, times = fastlam.Brownian(mu=0.5, sigma=2, x0=-1), np.arange(1, 11) / 8
    x = fastlam.simulate(process, times, 250, seed=2**63 + 5, first_path=7, antithetic=True)
    np.testing.assert_array_equal(load_paths(f"x{suffix}", layout), x)
    if suffix == ".npz":
        np.testing.assert_array_equal(np.load("x.npz")["times"], times)


@pytest.fixture
def files(tmp_path):
    """Good and bad files to name in a command."""
    np.save(tmp_path / "x.npy", np.ones((4, 6)))
    np.save(tmp_path / "k.npy", np.ones(4))
    np.save(tmp_path / "k6.npy", np.ones(6))
    np.save(tmp_path / "k9.npy", np.ones(9))
    np.save(tmp_path / "nan.npy", np.array([1, 1, np.nan, 1]))
    np.save(tmp_path / "xnan.npy", np.full((4, 6), np.nan))
    np.save(tmp_path / "zero.npy", np.zeros((4, 6)))
    (tmp_path / "x.csv").write_text("1,2\n3,four\n")
    (tmp_path / "x.txt").write_text("1,2\n")
    (tmp_path / "empty.npy").touch()
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "fit.png").mkdir()


READ = ("fit", "--paths", "x.npy", "--targets", "k.npy")
BAD = [
    (["fit", "--epochs", "x"], 2, "Invalid value for '--epochs'"),
    (["fit", "--epoch", "3"], 2, "No such option: --epoch"),
    (["fit", "extra"], 2, "extra"),
    (["nothing"], 2, "No such command 'nothing'"),
    (["simulate"], 2, "Missing option '--out'"),
    (["fit", "--n-paths", "0"], 2, "n_paths must be at least 1"),
    (["fit", "--n-times", "-3"], 2, "--n-times must be at least 1, but is -3"),
    (["fit", "--threads", "0"], 2, "--threads must be at least 1, but is 0"),
    (["fit", "--dtype", "float16"], 2, "float16"),
    (["fit", "--layout", "rows", "--paths", "x.npy"], 2, "rows"),
    (["fit", "--paths", "x.npy"], 2, "--paths needs --targets"),
    (["fit", "--targets", "k.npy"], 2, "--targets needs --paths"),
    (["fit", "--layout", "paths-by-times"], 2, "--layout needs --paths"),
    ([*READ, "--true-lam", "0.25"], 2, "--true-lam is about simulated paths, but --paths reads them from a file"),
    ([*READ, "--n-paths", "20000"], 2, "--n-paths is about simulated paths"),
    ([*READ, "--noise", "0"], 2, "--noise is about simulated paths"),
    (["fit", "--dt", "0.1", "--horizon", "3"], 2, "--dt and --horizon both say where times are"),
    (["fit", "--dt", "0"], 2, "--dt must be finite and above 0, but is 0"),
    (["fit", "--dt", "1/0"], 2, "--dt must be a number, but is '1/0'"),
    (["fit", "--dt", "fast"], 2, "--dt must be a number, but is 'fast'"),
    (["fit", "--horizon", "nan"], 2, "--horizon must be finite and above 0, but is nan"),
    (["fit", "--sigma", "-1"], 2, "sigma must be at least 0"),
    (["fit", "--mu", "inf"], 2, "mu must be finite"),
    (["fit", "--noise", "-1"], 2, "--noise must be finite and at least 0"),
    (["fit", "--true-lam", "nan"], 2, "k[0] = nan"),
    (["fit", "--seed", "-1"], 2, "seed"),
    (["fit", "--lr", "fast"], 2, "--lr must be a number or auto, but is 'fast'"),
    (["fit", "--lr", "-1"], 2, "lr must be finite and above 0"),
    (["fit", "--optimizer", "magic"], 2, "optimizer must be one of"),
    (["fit", "--epochs", "0"], 2, "epochs must be at least 1"),
    (["fit", "--batch-size", "0"], 2, "batch_size must be at least 1"),
    (["fit", "--holdout", "1"], 2, "holdout must be at least 0 and below 1"),
    (["fit", "--n-paths", str(10**13)], 1, "simulate needs "),
    (["fit", "--n-times", str(10**13)], 1, "--n-times 10,000,000,000,000 needs "),
    (["fit", "--out", "x.npy"], 1, "--out x.npy must be a folder, but is a file"),
    (["fit", "--out", "x.npy/deeper"], 1, "Not a directory"),
    (["fit", "--out", "taken"], 1, "fit.png is a folder, but must be a file"),
    (["fit", "--paths", "x.txt", "--targets", "k.npy"], 2, "suffix '.txt', but must have one of .npy, .npz, .csv"),
    (["fit", "--paths", "none.npy", "--targets", "k.npy"], 1, "none.npy: no such file"),
    (["fit", "--paths", "folder.npy", "--targets", "k.npy"], 1, "folder.npy is a folder, but must be a file"),
    (["fit", "--paths", "empty.npy", "--targets", "k.npy"], 2, "empty.npy is empty"),
    (["fit", "--paths", "x.csv", "--targets", "k.npy"], 2, "x.csv, line 2, column 2: 'four' is not a number"),
    (["fit", "--paths", "x.npy", "--targets", "nan.npy"], 2, "nan.npy: targets must be finite, but k[2] = nan"),
    (["fit", "--paths", "xnan.npy", "--targets", "k.npy"], 2, "x must be finite, but row 0"),
    (["fit", "--paths", "zero.npy", "--targets", "k.npy"], 2, "x is zero at every training time"),
    (["fit", "--paths", "x.npy", "--targets", "k6.npy"], 2, "shape (6,), which must be one target for each time; "
     "--layout paths-by-times would fit"),
    (["fit", "--paths", "x.npy", "--targets", "k9.npy"], 2, "x.npy has shape (4, 6) as times by paths"),
    ([*READ, "--layout", "paths-by-times"], 2, "--layout times-by-paths would fit"),
    (["simulate", "--out", "x.txt"], 2, "suffix '.txt'"),
    (["simulate", "--out", "folder.npy"], 1, "folder.npy is a folder, but must be a file"),
    (["simulate", "--out", "no/x.npy"], 1, "there is no folder"),
    (["simulate", "--out", "y.npy", "--first-path", "-1"], 2, "first_path must be at least 0"),
    (["simulate", "--out", "y.npy", "--n-paths", "0"], 2, "--n-paths must be at least 1, but is 0"),
    (["simulate", "--out", "y.npy", "--n-times", "0"], 2, "--n-times must be at least 1, but is 0"),
    (["simulate", "--out", "y.npy", "--first-path", str(2**64 - 1)], 2, "--n-paths must be at most 2**64"),
    (["simulate", "--out", "y.npy", "--seed", str(2**64)], 2, "seed must be at least 0 and below 2**64"),
    (["simulate", "--out", "y.npy", "--n-paths", str(10**13)], 1, "GB are free on its disk"),
    (["simulate", "--out", "y.npy", "--n-times", str(10**13)], 1, "take fewer times"),
    (["simulate", "--out", "y.csv", "--n-paths", str(10**13)], 1, "simulate needs "),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message"), BAD, ids=lambda value: " ".join(value)[:60] if type(value) is list else ""
)
def test_a_failure_is_one_line(fastlam_, tmp_path, files, arguments, code, message):
    before = sorted(tmp_path.rglob("*"))
    result, stdout, stderr = fastlam_(*arguments)
    assert (result, stdout) == (code, "")
    name = "fastlam" if arguments == ["nothing"] else f"fastlam {arguments[0]}"
    assert stderr.startswith(f"{name}: error: ")
    assert message in stderr
    assert stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("arguments", [["--debug", "fit", "--dt", "0"], ["fit", "--dt", "0", "--debug"]])
def test_debug_raises(fastlam_, arguments):
    with pytest.raises(ValueError, match="--dt must be finite"):
        fastlam_(*arguments)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "fastlam fit: interrupted"),
        (MemoryError(), 1, "fastlam fit: error: out of memory"),
        (ZeroDivisionError("a\n  b"), 1, "fastlam fit: error: ZeroDivisionError: a b (--debug shows the trace)"),
        (KeyError("a"), 1, "fastlam fit: error: KeyError: 'a' (--debug shows the trace)"),
        (
            OSError(28, "No space left on device", "fit.json"),
            1,
            "fastlam fit: error: fit.json: No space left on device",
        ),
        (ImportError("x is missing"), 1, "fastlam fit: error: x is missing"),
        (RuntimeError("y"), 1, "fastlam fit: error: RuntimeError: y (--debug shows the trace)"),
    ],
)
def test_what_the_library_raises(fastlam_, monkeypatch, error, code, line):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(fastlam, "fit", fail)
    assert fastlam_("fit", *SMALL) == (code, "", line + "\n")
    with pytest.raises(type(error)):
        fastlam_("fit", *SMALL, "--debug")


def test_a_failed_write_leaves_the_old_files(fastlam_, tmp_path, monkeypatch):
    (tmp_path / "fit.json").write_text("old")
    (tmp_path / "fit.png").write_text("old")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    code, _, stderr = fastlam_("fit", *SMALL)
    assert (code, stderr) == (130, "fastlam fit: interrupted\n")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"fit.json": "old", "fit.png": "old"}


def test_divergence_is_a_failure_with_its_remedy(fastlam_, tmp_path):
    code, stdout, stderr = fastlam_("fit", *SMALL, "--optimizer", "sgd", "--lr", 1e12, "--epochs", 200)
    assert code == 1
    lines = stderr.splitlines()
    assert lines[0].startswith("fastlam fit: warning: fit: lr = 1e+12 is above")
    assert lines[-1].startswith("fastlam fit: error: training diverged: --lr ")
    assert all(line.startswith("fastlam fit: ") for line in lines)
    assert "trained lam" in stdout
    assert not np.isfinite(float(table(stdout)["trained lam"]))
    assert written(tmp_path)["lam"] is None


def test_without_typer(fastlam_, monkeypatch):
    for missing in ("typer", "rich"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            code, _, stderr = fastlam_("fit")
        assert (code, stderr) == (
            1,
            f'fastlam fit: error: the command line needs {missing}: pip install "fastlam[cli]"\n',
        )


def test_without_matplotlib_nothing_is_started():
    code = "import sys; sys.modules['matplotlib'] = None; from fastlam.cli import main; main(['fit'])"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == 'fastlam fit: error: pictures need matplotlib: pip install "fastlam[cli]"\n'


def test_without_pyarrow(fastlam_, monkeypatch, files):
    Path("x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, stderr = fastlam_("fit", "--paths", "x.parquet", "--targets", "k.npy")
    assert (code, stderr) == (1, 'fastlam fit: error: a .parquet file needs pyarrow: pip install "fastlam[data]"\n')


def test_help_and_version(fastlam_):
    code, stdout, stderr = fastlam_()
    assert (code, stderr) == (0, "")
    assert all(name in stdout for name in ("fit", "simulate", "info"))
    assert fastlam_("--help")[0] == 0
    code, stdout, _ = fastlam_("--version")
    assert (code, stdout) == (0, "fastlam 0.1.0\n")


def test_info(fastlam_):
    code, stdout, stderr = fastlam_("info")
    assert (code, stderr) == (0, "")
    shown = dict(
        re.split(r"\s+", line, maxsplit=1) for line in stdout.splitlines() if not line.startswith(("CUDA ", "torch's"))
    )
    assert shown["numpy"] == np.__version__
    assert shown["torch"] == torch.__version__
    assert shown["threads"] == str(torch.get_num_threads())
    assert re.match(r"(128|256|512) bits \(\w+\), (with|without) fma|none known|unknown", shown["vectors"])
    assert re.match(r"[\d,]+\.\d GB available", shown["memory"])
    assert {"python", "processor", "cores", "numba-cuda", "cuda-core", "cupy", "numba.cuda"} <= set(shown)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512f", "avx2", "avx", "sse2", "fma"}, "512 bits (avx512f), with fma"),
        ({"avx2", "avx", "sse2", "fma"}, "256 bits (avx2), with fma"),
        ({"avx", "sse2"}, "256 bits (avx), without fma"),
        ({"sse2"}, "128 bits (sse2), without fma"),
        ({"neon", "fp-armv8"}, "128 bits (neon), with fma"),
        (set(), "none known to LLVM"),
    ],
)
def test_info_vectors(monkeypatch, features, expected):
    from llvmlite import binding

    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: dict.fromkeys(features, True) | {"sve": False})
    assert info._vectors() == expected


def test_info_processor_without_cpuinfo(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda _: "processor\t: 0\n")
    assert info._processor().endswith(")")
    monkeypatch.setattr(Path, "read_text", lambda _: "model name\t: Some Processor\n" * 2)
    assert info._processor().startswith("Some Processor (")


class FakeDriver:
    """libcuda with two devices, or with none, or broken."""

    def __init__(self, version: int, devices: int, status: int = 0) -> None:
        self.version, self.devices, self.status = version, devices, status

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version

    def cuInit(self, flags):
        return self.status

    def cuDeviceGetCount(self, count):
        count._obj.value = self.devices
        return 0

    def cuGetErrorName(self, status, text):
        text._obj.value = b"CUDA_ERROR_UNKNOWN"

    def cuDeviceGet(self, device, i):
        device._obj.value = i

    def cuDeviceGetName(self, name, size, device):
        name.value = b"NVIDIA Something %d" % device.value

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = {75: 9, 76: 0}[attribute]

    def cuDeviceTotalMem_v2(self, size, device):
        size._obj.value = 80 * 10**9


@pytest.fixture
def cuda(monkeypatch):
    """The facts about CUDA with a given driver (None: no driver), packages present or missing."""

    def facts(driver: FakeDriver | None, present: bool = True) -> dict[str, str]:
        def load(name: str) -> FakeDriver:
            if driver is None:
                raise OSError(f"{name}: cannot open shared object file")
            return driver

        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setattr(info, "_findable", lambda _: present)
        monkeypatch.setattr(info, "_version", lambda _: "1.2.3" if present else None)
        monkeypatch.setattr(info, "_toolkit_library", lambda name: f"/lib/{name}.so" if present else None)
        return dict(info._cuda())

    return facts


def test_info_with_all_of_cuda(cuda):
    shown = cuda(FakeDriver(13010, 2))
    assert shown["CUDA"] == "complete"
    assert shown["CUDA driver"] == "serves CUDA 13.1"
    assert shown["CUDA device 0"] == "NVIDIA Something 0, sm_90, 80.0 GB"
    assert shown["CUDA device 1"] == "NVIDIA Something 1, sm_90, 80.0 GB"
    assert shown["nvvm"] == "/lib/nvvm.so"


@pytest.mark.parametrize(
    ("driver", "present", "missing"),
    [
        (None, True, ["a working NVIDIA driver (libcuda.so.1 is not installed)"]),
        (FakeDriver(13000, 0), True, ["a working NVIDIA driver (it sees no device)"]),
        (FakeDriver(13000, 1, 999), True, ["a working NVIDIA driver (it answers CUDA_ERROR_UNKNOWN)"]),
        (
            FakeDriver(12080, 1),
            False,
            ['the package numba-cuda (pip install "fastlam[cuda12]")', "the package cuda-core"],
        ),
        (FakeDriver(13000, 1), False, ['the library nvvm (pip install "fastlam[cuda13]")']),
        (None, False, ["libcuda.so.1", 'cuda-core (pip install "fastlam[cuda13]")', "the library nvJitLink"]),
    ],
)
def test_info_says_what_of_cuda_is_missing(cuda, driver, present, missing):
    shown = cuda(driver, present)
    assert shown["CUDA"].startswith("missing: ")
    assert all(part in shown["CUDA"] for part in missing)


def test_info_survives_a_broken_numba_cuda(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    assert info._numba_cuda().startswith("not importable: ")
    assert not info._findable("no_such_package.module")


@pytest.mark.parametrize(
    ("text", "value"), [("1/250", 0.004), ("0.004", 0.004), ("4e-3", 0.004), ("2", 2.0), ("-1/4", -0.25)]
)
def test_numbers(text, value):
    assert options.number("--dt", text) == value


def start(*arguments: object, cwd: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*FASTLAM, *map(str, arguments)], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_as_a_program(tmp_path):
    with start("fit", *SMALL, cwd=tmp_path) as process:
        stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert table(stdout)["true lam"] == "0.25"
    with start("fit", "--paths", "x.npy", "--targets", "k.npy", cwd=tmp_path) as process:
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout, stderr) == (1, "", "fastlam fit: error: x.npy: no such file\n")
    with start("fit", "--dt", "0", "--debug", cwd=tmp_path) as process:
        stderr = process.communicate()[1]
    assert process.returncode == 1
    assert stderr.startswith("Traceback")


def wait_for_temporary(folder: Path, process: subprocess.Popen) -> None:
    """Until the command has begun to write; the suite's time limit ends a wait in vain."""
    while not any(path.name.endswith(".tmp.npy") and path.stat().st_size for path in folder.iterdir()):
        assert process.poll() is None, process.communicate()


@pytest.mark.parametrize(
    ("how", "code", "line"),
    [
        (signal.SIGINT, 130, "fastlam simulate: interrupted\n"),
        (signal.SIGTERM, 143, ""),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_a_signal_while_simulate_writes(tmp_path, how, code, line):
    (tmp_path / "x.npy").write_text("old")
    # Far more than is written before the signal comes: 1.6 GB.
    with start("simulate", "--out", "x.npy", "--n-paths", 400_000, "--n-times", 1000, cwd=tmp_path) as process:
        wait_for_temporary(tmp_path, process)
        process.send_signal(how)
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout, stderr) == (code, "", line)
    assert (tmp_path / "x.npy").read_text() == "old"
    rest = [path for path in tmp_path.iterdir() if path.name != "x.npy"]
    assert bool(rest) == (how == signal.SIGKILL)
    for path in rest:
        path.unlink()


def test_a_reader_that_leaves_early(tmp_path):
    with start("info", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        stderr = process.stderr.read()
    assert (process.returncode, stderr) == (1, "")


def test_the_progress_bar(tmp_path):
    """On a terminal, and only there."""
    import pty

    leader, follower = pty.openpty()
    with subprocess.Popen(
        [*FASTLAM, "fit", *SMALL], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=follower
    ) as process:
        os.close(follower)
        shown = b""
        while chunk := read(leader):
            shown += chunk
    os.close(leader)
    assert process.returncode == 0
    assert b"train" in shown
    assert b"3/3" in shown


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's way to say that the other side of a terminal is closed
        return b""
