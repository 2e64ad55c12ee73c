"""`fastlam fit`: what it computes, prints and writes."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import fastlam
from fastlam import plot, report
from fastlam.data import load_paths, save_paths

SMALL = ("--n-paths", "200", "--n-times", "50", "--epochs", "3")


def table(stdout: str) -> dict[str, str]:
    pairs = (re.split(r"\s{2,}", line.strip()) for line in stdout.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def written(folder: Path) -> dict:
    return json.loads((folder / "fit.json").read_text())


def test_without_options_the_source_problem_is_solved(fastlam_, tmp_path):
    code, stdout, stderr = fastlam_("fit")
    assert (code, stderr) == (0, "")
    assert "20,000 paths x 1,000 times; Adam, 20 epochs in batches of 32" in stdout
    shown = table(stdout)
    assert float(shown["true lam"]) == 0.25
    assert float(shown["trained lam"]) == pytest.approx(0.25, abs=1e-4)
    assert float(shown["closed-form lam"]) == pytest.approx(0.25, abs=1e-6)
    assert {"standard error", "hold-out loss", "largest stable lr (sgd)", "lr", "trained - closed form"} <= set(shown)
    assert {f"seconds: {part}" for part in ("simulate", "means", "train", "validate", "draw")} <= set(shown)
    assert "\nseconds: with the compiling of kernels" in stdout
    assert stdout.endswith("wrote fit.json fit.png\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit.json", "fit.png"]


def test_fit_json_and_png(fastlam_, tmp_path):
    code, stdout, _ = fastlam_("fit", *SMALL, "--out", "a/b")
    assert code == 0
    assert "wrote a/b/fit.json a/b/fit.png" in stdout
    fields = written(tmp_path / "a" / "b")
    assert set(fields) == {
        *fastlam.FitResult.__dataclass_fields__,
        "true_lam",
        "options",
        "fastlam",
        "holdout_paths_loss",
    }
    assert fields["true_lam"] == 0.25
    assert set(fields["seconds"]) == {"simulate", "means", "train", "validate", "draw"}
    assert len(fields["means"]) == len(fields["targets"]) == 50
    assert len(fields["history"]["lam"]) == 3
    picture = (tmp_path / "a" / "b" / "fit.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) > 20_000
    width, height = (int.from_bytes(picture[i : i + 4], "big") for i in (16, 20))
    assert width > 900
    assert height > 600


def test_the_picture_says_of_how_many_paths_it_draws_some(fastlam_, monkeypatch):
    titles = []

    def plotted(*arguments, **options):
        figure = plot.plot_fit(*arguments, **options)
        titles.append(figure.axes[0].get_title())
        return figure

    monkeypatch.setattr(report, "plot_fit", plotted)
    assert fastlam_("fit", *SMALL)[0] == 0
    assert titles == ["50 of 200 paths"]


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


def test_says_once_when_lam_has_not_settled(fastlam_, tmp_path):
    """In the words of fit's warning, under the table."""
    code, stdout, stderr = fastlam_("fit", *SMALL)
    assert (code, stderr) == (0, "")
    fields = written(tmp_path)
    assert (
        f"\nnot settled by epoch 3: lam = {fields['lam']:.6g} is {fields['difference']:+.2g} from the closed form; "
        "take more epochs, the optimizer sgd, or larger batches if lam jumps from epoch to epoch\n"
    ) in stdout
    code, stdout, stderr = fastlam_("fit", *SMALL[:4], "--epochs", 100, "--optimizer", "sgd")
    assert (code, stderr) == (0, "")
    assert "settled" not in stdout


def test_advice_is_about_the_learning_rate_where_descent_is_plain(fastlam_, tmp_path):
    code, stdout, stderr = fastlam_("fit", *SMALL, "--lr", 1000, "--optimizer", "sgd")
    assert (code, stderr) == (0, "")
    stable = written(tmp_path)["max_stable_lr"]
    assert f"; take more epochs, a larger lr ({stable / 2:.4g} is stable), or larger batches" in stdout
    assert stable > 2000


def test_one_time_has_no_standard_error_and_may_be_unsettled(fastlam_):
    code, stdout, stderr = fastlam_("fit", "--n-paths", 200, "--n-times", 1, "--lr", 0.001)
    assert (code, stderr) == (0, "")
    assert table(stdout)["standard error"] == "nan"
    assert " is -0.23 from the closed form; " in stdout  # 20 steps of 0.001 from 0, to 0.25


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_pass_is_the_same_fit_with_no_path_stored(fastlam_, tmp_path, monkeypatch, dtype):
    """To the last bit, 3,000 paths being several leaves of the tree."""
    given = ("--n-paths", 3000, "--n-times", 20, "--noise", 0.02, "--true-lam", 0.3, "--seed", 5, "--dtype", dtype)
    assert fastlam_("fit", *given, "--out", "stored")[0] == 0

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("simulate stores paths")

    monkeypatch.setattr(fastlam, "simulate", refuse)
    code, stdout, stderr = fastlam_("fit", *given, "--one-pass", "--out", "passed")
    assert (code, stderr) == (0, "")
    stored, passed = written(tmp_path / "stored"), written(tmp_path / "passed")
    assert {**stored, "seconds": None} == {**passed, "seconds": None}
    assert set(passed["seconds"]) == {"means", "train", "validate", "draw"}
    assert table(stdout)["loss on other paths"] == f"{passed['holdout_paths_loss']:.3g}"
    assert (tmp_path / "passed" / "fit.png").stat().st_size > 20_000


def test_lam_is_tried_on_the_next_paths_of_the_family(fastlam_, tmp_path):
    """Training on [0, 300), validation on [300, 600)."""
    assert fastlam_("fit", "--n-paths", 300, "--n-times", 20, "--seed", 5, "--dtype", "float64")[0] == 0
    fields = written(tmp_path)
    x = fastlam.simulate(fastlam.Brownian(mu=0.05, sigma=0.2), np.arange(1, 21) / 250, 600, seed=5)
    np.testing.assert_allclose(fields["means"], np.mean(x[:, :300] ** 2, axis=1), rtol=1e-13)
    residuals = fields["lam"] * np.mean(x[:, 300:] ** 2, axis=1) - fields["targets"]
    assert fields["holdout_paths_loss"] == pytest.approx(np.mean(residuals**2), rel=1e-9, abs=0)


def test_one_pass_shows_its_paths_as_they_are_done(fastlam_, monkeypatch):
    from contextlib import contextmanager

    from fastlam import commands

    shown = []

    @contextmanager
    def bar(_: str):
        yield lambda *done: shown.append(done)

    monkeypatch.setattr(commands, "progress_bar", bar)
    assert fastlam_("fit", "--n-paths", 500, "--n-times", 20, "--epochs", 2, "--one-pass")[0] == 0
    assert [part for part in shown if part[1] == part[2]] == [
        ("paths", 500, 500), ("train", 2, 2), ("validate", 500, 500)
    ]  # fmt: skip


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
    assert fields["holdout_paths_loss"] is None
    assert "loss on other paths" not in stdout
    assert set(fields["seconds"]) == {"read", "means", "train", "draw"}


def test_divergence_is_a_failure_with_its_remedy(fastlam_, tmp_path):
    code, stdout, stderr = fastlam_("fit", *SMALL, "--optimizer", "sgd", "--lr", 1e12, "--epochs", 200)
    assert code == 1
    lines = stderr.splitlines()
    assert lines[0].startswith("fastlam fit: warning: fit: lr = 1e+12 is above")
    assert re.match(
        r"fastlam fit: error: training diverged with --lr 1e\+12: try --lr [\d.e+]+, or --lr auto$", lines[-1]
    )
    assert all(line.startswith("fastlam fit: ") for line in lines)
    assert "trained lam" in stdout
    assert not np.isfinite(float(table(stdout)["trained lam"]))
    assert written(tmp_path)["lam"] is None


def test_auto_comes_back_from_the_largest_lam0(fastlam_):
    """lam0 * mean(x**2) is beyond float64: fit scales it."""
    code, stdout, _ = fastlam_("fit", *SMALL, "--x0", 100, "--lam0", 1e308, "--optimizer", "sgd")
    assert code == 0
    assert float(table(stdout)["trained lam"]) < 1e308


def test_divergence_of_auto_does_not_advise_auto(fastlam_, monkeypatch):
    from fastlam import fitted

    fit = fitted.fit_paths
    monkeypatch.setattr(fitted, "fit_paths", lambda *given: dataclasses.replace(fit(*given), lam=float("nan")))
    code, _, stderr = fastlam_("fit", *SMALL)
    assert code == 1
    last = stderr.splitlines()[-1]
    assert re.match(r"fastlam fit: error: training diverged with --lr auto: try --lr [\d.e-]+, or another", last)
    assert last.count("auto") == 1


def arguments(fields: dict) -> list[object]:
    """The options of a fit.json as they stand on a command line."""
    return [part for name, value in fields["options"].items() for part in (f"--{name.replace('_', '-')}", value)]


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--seed", 2**64 - 1, "--dt", "1/7", "--mu", -0.5, "--sigma", 0.3, "--x0", 2, "--noise", 0.1],
        ["--horizon", 0.1, "--dtype", "float64", "--true-lam", 3, "--lam0", 1, "--lr", "1/300", "--optimizer", "SGD"],
        ["--batch-size", 7, "--holdout", 0.4, "--threads", 1, "--debug"],
    ],
)
def test_fit_json_holds_what_makes_the_run_again(fastlam_, tmp_path, monkeypatch, given):
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    assert fastlam_("fit", *SMALL, *given, "--out", "first")[0] == 0
    first = written(tmp_path / "first")
    options = {"n_paths", "n_times", "mu", "sigma", "x0", "dtype", "true_lam", "noise", "seed", "lam0", "lr"}
    options |= {"optimizer", "epochs", "batch_size", "holdout", "horizon" if "--horizon" in given else "dt"}
    assert set(first["options"]) == options
    assert fastlam_("fit", *arguments(first), "--out", "second")[0] == 0
    second = written(tmp_path / "second")
    assert {**first, "seconds": None} == {**second, "seconds": None}


def test_fit_json_of_files_holds_their_names(fastlam_, tmp_path):
    save_paths(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((6, 20)), "paths-by-times")
    np.save(tmp_path / "k.npy", np.ones(6))
    files = ("--paths", "x.npy", "--targets", "k.npy", "--layout", "paths-by-times")
    assert fastlam_("fit", *files, "--seed", 5)[0] == 0
    first = written(tmp_path)
    assert arguments(first)[:6] == [*files]
    assert first["options"]["seed"] == 5
    assert not {"n_paths", "true_lam", "dt"} & set(first["options"])
    assert fastlam_("fit", *arguments(first))[0] == 0
    assert {**first, "seconds": None} == {**written(tmp_path), "seconds": None}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that fits draw."""
    from fastlam import report

    figures, plot_fit = [], report.plot_fit
    monkeypatch.setattr(report, "plot_fit", lambda *a, **named: figures.append(plot_fit(*a, **named)) or figures[-1])
    return figures


def test_times_in_an_npz_are_drawn(fastlam_, drawn):
    shape = ("--n-paths", 30, "--n-times", 8, "--dt", 0.25)
    for layout in ("times-by-paths", "paths-by-times"):
        assert fastlam_("simulate", *shape, "--layout", layout, "--out", "x.npz")[0] == 0
        np.save("k.npy", np.ones(8))
        code, _, stderr = fastlam_("fit", "--paths", "x.npz", "--layout", layout, "--targets", "k.npy")
        assert (code, stderr) == (0, "")
        paths = drawn[-1].axes[0]
        assert paths.get_xlabel() == "time"
        np.testing.assert_array_equal(paths.lines[0].get_xdata(), np.arange(1, 9) / 4)


@pytest.mark.parametrize(
    ("times", "line"),
    [
        (np.arange(9.0), "x.npz: times must have shape (8,), one for each time of the paths, but has (9,)"),
        (np.array([1.0, np.nan] * 4), "x.npz: times must be finite, but times[1] = nan"),
        (np.zeros(8, "M8[s]"), "x.npz: times.npy has dtype datetime64[s], but must have float32"),
    ],
)
def test_times_that_cannot_be_drawn_are_warned_of(fastlam_, drawn, times, line):
    save_paths("x.npz", np.ones((8, 3)), times=times, k=np.ones(8))
    code, _, stderr = fastlam_("fit", "--paths", "x.npz", "--targets", "x.npz")
    assert code == 0
    assert stderr.startswith(f"fastlam fit: warning: {line}")
    assert stderr.endswith("; the picture shows positions\n")
    assert stderr.count("\n") == 1
    assert drawn[-1].axes[0].get_xlabel() == "time position"
