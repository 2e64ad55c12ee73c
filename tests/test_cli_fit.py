"""`fastlam fit`: what it computes, prints and writes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import fastlam
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
