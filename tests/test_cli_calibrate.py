"""`fastlam calibrate`: what it computes, prints and writes; and its README."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

import fastlam
from fastlam import calibrate_command
from fastlam.data import save_paths

TIMES = np.arange(1, 21) * 0.1
SMALL = ("--n-paths", 2000)
README = (Path(__file__).parents[1] / "README.md").read_text()


def rows(stdout: str) -> dict[str, list[str]]:
    cells = (re.split(r"\s{2,}", line.strip()) for line in stdout.splitlines())
    return {row[0]: row[1:] for row in cells if len(row) == 5}


def written(folder: Path) -> dict:
    return json.loads((folder / "calibrate.json").read_text())


@pytest.fixture
def targets(tmp_path):
    """Of a Brownian motion from 1 with mu = 0, sigma = 0.5 and lam = 0.25."""
    k = 0.25 * (1 + 0.25 * TIMES)
    np.save(tmp_path / "k.npy", k)
    return k


def test_what_it_prints_and_writes(fastlam_, tmp_path, monkeypatch, targets):
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    code, stdout, stderr = fastlam_(
        "calibrate", "--targets", "k.npy", "--dt", "1/10", "--learn", "lam, sigma", "--lam", 0.5, "--mu", 0, "--sigma",
        0.8, "--x0", 1, *SMALL, "--seed", 9, "--antithetic", "--out", "a/b", "--threads", 2, "--debug",
    )  # fmt: skip
    assert (code, stderr, threads) == (0, "", [2])
    process = fastlam.Brownian(mu=0, sigma=0.8, x0=1)
    same = fastlam.calibrate(
        process, TIMES, targets, learn=("lam", "sigma"), lam=0.5, n_paths=2000, seed=9, antithetic=True
    )
    fields = written(tmp_path / "a" / "b")
    made = fields.pop("options")
    assert fields.pop("fastlam") == "0.1.0"
    assert {**fields, "seconds": None} == {**json.loads(same.to_json()), "seconds": None}
    shown = rows(stdout)
    for name in ("lam", "sigma"):
        errors = [f"{values[name]:.2g}" for values in (same.stderr, same.monte_carlo_stderr)]
        assert shown[name] == [f"{same.start[name]:.6g}", f"{same.estimates[name]:.6g}", *errors]
    assert "2,000 paths x 20 times; Brownian(mu=0.0, sigma=0.8, x0=1.0)" in stdout
    assert f"on other paths {same.validation_loss:.3g}; rank 2 of 2" in stdout
    assert stdout.endswith("wrote a/b/calibrate.json\n")
    flags = [f"--{name}" for name in ("antithetic",) if made.pop(name)]
    again = [part for name, value in made.items() for part in (f"--{name.replace('_', '-')}", value)]
    assert fastlam_("calibrate", *again, *flags)[0] == 0
    assert written(tmp_path)["estimates"] == fields["estimates"]


def test_what_is_not_identified_is_said_and_fails(fastlam_, tmp_path):
    """Lam, mu and sigma of a Brownian motion from 0."""
    np.savetxt("k.csv", 0.25 * ((0.5 * TIMES) ** 2 + 0.2**2 * TIMES))
    learn = ("--learn", "lam,mu,sigma", "--mu", 0.3)
    code, stdout, stderr = fastlam_("calibrate", "--targets", "k.csv", "--horizon", 2, *learn, "--n-paths", 20_000)
    assert code == 1
    sentence = (
        "not identified: only a combination of lam, mu and sigma is known: k stays the same where lam changes by -1%, "
        "mu by +0.5% and sigma by +0.5%"
    )
    assert stdout.count("combination") == 0
    assert stderr == f"fastlam calibrate: error: {sentence}\n"
    shown = rows(stdout)
    assert [shown[name][1:] for name in ("lam", "mu", "sigma")] == [["not identified", "unknown", "unknown"]] * 3
    fields = written(tmp_path)
    assert fields["identified"] is False
    assert fields["estimates"] == fields["stderr"] == {"lam": None, "mu": None, "sigma": None}


@pytest.mark.parametrize(
    ("kind", "process", "given"),
    [
        ("geometric-brownian", fastlam.GeometricBrownian(mu=0.1, sigma=0.3, x0=2.0), ["--mu", 0.1, "--x0", 2]),
        ("ornstein-uhlenbeck", fastlam.OrnsteinUhlenbeck(1.5, 0.2, 0.3, 0.1),
         ["--theta", 1.5, "--mu", 0.2, "--x0", 0.1]),
        ("cox-ingersoll-ross", fastlam.CoxIngersollRoss(2.0, 0.5, 0.3, 0.4),
         ["--kappa", 2, "--theta", 0.5, "--x0", 0.4]),
    ],
)  # fmt: skip
def test_each_diffusion(fastlam_, tmp_path, kind, process, given):
    """Sigma is found to rounding on the paths that made the targets."""
    save_paths("k.npz", fastlam.simulate_mean_square(process, TIMES, 2000, seed=4)[:, None], times=TIMES)
    arguments = ("--process", kind, "--sigma", 0.5, "--learn", "sigma", "--seed", 4, *given, *SMALL)
    code, stdout, stderr = fastlam_("calibrate", "--targets", "k.npz", "--times", "k.npz", *arguments)
    assert (code, stderr) == (
        2,
        "fastlam calibrate: error: k.npz must hold one array, or one named k, but holds x, times\n",
    )
    np.savez("k.npz", k=fastlam.simulate_mean_square(process, TIMES, 2000, seed=4), times=TIMES)
    code, stdout, stderr = fastlam_("calibrate", "--targets", "k.npz", "--times", "k.npz", *arguments)
    assert (code, stderr) == (0, "")
    assert written(tmp_path)["estimates"]["sigma"] == pytest.approx(0.3, rel=1e-9, abs=0)
    assert type(process).__name__ in stdout


def test_no_convergence_fails(fastlam_, monkeypatch, targets):
    calibrate = fastlam.calibrate
    monkeypatch.setattr(fastlam, "calibrate", lambda *a, **named: calibrate(*a, **named, max_iterations=1))
    code, stdout, stderr = fastlam_("calibrate", "--targets", "k.npy", "--x0", 1, "--sigma", 5, "--lam", 0.25, *SMALL)
    assert code == 1
    assert stderr == "fastlam calibrate: error: not converged in 1 steps: start nearer to the answer\n"
    assert "wrote calibrate.json" in stdout


K = ("calibrate", "--targets", "k.npy")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["calibrate"], 2, "Missing option '--targets'"),
        (["calibrate", "--targets", "none.npy"], 1, "none.npy: no such file"),
        ([*K, "--process", "levy"], 2, "levy"),
        ([*K, "--kappa", "1"], 2, "--kappa is no parameter of brownian, which has mu, sigma, x0"),
        ([*K, "--learn", "theta"], 2, "--learn must be some of lam,mu,sigma,x0, each once, but is theta"),
        ([*K, "--learn", "mu,mu"], 2, "each once, but is mu,mu"),
        ([*K, "--learn", ""], 2, "--learn must be some of"),
        ([*K, "--sigma", "-1"], 2, "sigma must be at least 0, but is -1"),
        ([*K, "--sigma", "0"], 2, "sigma is learned, so it must start above 0"),
        ([*K, "--n-times", "7"], 2, "--n-times gives 7 times, but --targets k.npy holds 20 targets"),
        ([*K, "--times", "t.npy"], 2, "--times t.npy gives 3 times, but --targets k.npy holds 20 targets"),
        ([*K, "--times", "square.npy"], 2, "--times square.npy holds an array of shape (2, 2)"),
        ([*K, "--times", "t.npy", "--dt", "1"], 2, "--dt and --times both say where times are: give one of them"),
        ([*K, "--horizon", "1", "--dt", "1"], 2, "--dt and --horizon both say where times are"),
        ([*K, "--n-paths", "0"], 2, "n_paths must be at least 1"),
        ([*K, "--n-paths", "7", "--antithetic"], 2, "n_paths must be even"),
        ([*K, "--out", "k.npy"], 1, "--out k.npy must be a folder, but is a file"),
        ([*K, "--out", "taken"], 1, "calibrate.json is a folder, but must be a file"),
        ([*K, "--threads", "0"], 2, "--threads must be at least 1"),
    ],
    ids=lambda value: " ".join(value)[:60] if type(value) is list else "",
)
def test_a_failure_is_one_line(fastlam_, tmp_path, targets, arguments, code, message):
    np.save("t.npy", np.arange(1.0, 4.0))
    np.save("square.npy", np.ones((2, 2)))
    (tmp_path / "taken" / "calibrate.json").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    result, stdout, stderr = fastlam_(*arguments)
    assert (result, stdout) == (code, "")
    assert stderr.startswith("fastlam calibrate: error: ")
    assert message in stderr
    assert stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@dataclass(frozen=True)
class WithoutDefault(fastlam.Brownian):
    """A process whose drift has no default."""

    mu: float = field()


def test_parameters_without_a_default(fastlam_, monkeypatch, targets):
    monkeypatch.setitem(calibrate_command.PROCESSES, "brownian", WithoutDefault)
    code, _, stderr = fastlam_(*K)
    assert (code, stderr) == (2, "fastlam calibrate: error: brownian needs --mu, which has no default\n")
    code, stdout, _ = fastlam_(*K, "--mu", 0, "--sigma", 0.3, "--x0", 1, "--lam", 0.25, *SMALL)
    assert code == 0
    assert "WithoutDefault" in stdout


def test_the_readme_tells_what_it_prints(fastlam_):
    """To the digits shown but the last: other processors have other libraries of linear algebra."""
    section = README.partition("## Calibrate")[2].partition("\n## ")[0]
    command, printed = re.findall(r"```\w*\n(.*?)```", section, re.DOTALL)[:2]
    times = np.arange(1, 101) / 50
    decay = np.exp(-1.5 * times)
    np.savetxt("k.csv", 0.25 * ((2 * decay) ** 2 + 0.3**2 / 3 * (1 - decay**2)))
    code, stdout, _ = fastlam_(*command.replace("\\\n", "").split()[1:])
    assert code == 0
    shown, told = rows(stdout), rows(printed)
    assert list(told) == ["parameter", "lam", "theta", "sigma"] == list(shown)
    for name in ("lam", "theta", "sigma"):
        np.testing.assert_allclose(
            [float(cell) for cell in told[name]], [float(cell) for cell in shown[name]], rtol=0.1
        )
        assert float(told[name][1]) == pytest.approx(float(shown[name][1]), rel=1e-5)
