"""`make gpu` where there is no card: what it says of what is missing, what it makes of what its stages leave."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import gpu
from bench.card import machine, report, sanitizer, stage, targets
from bench.card.limits import COPYING
from bench.card.one_pass import ONE_PASS
from bench.card.paths import PATHS, STEPS
from bench.card.row import LIMITS
from bench.card.square import LARGE

ROOT = Path(__file__).parents[1]
NO_CARD = pytest.mark.skipif(torch.cuda.is_available(), reason="waits for a machine without a GPU")


@NO_CARD
@pytest.mark.parametrize("module", ["bench.gpu", "bench.profile_gpu"])
def test_without_a_card_the_command_says_what_is_missing(module):
    env = {**os.environ, "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert "CUDA" in done.stdout + done.stderr
    assert ": nothing runs. Remedy: " in done.stdout + done.stderr


def record(group, row, median, ours=True, rate=0.0, state="timed"):
    info = {"row": row, "ours": ours, "rate": "", "share": "", "note": ""}
    stats = {"median": median}
    return {"group": group, "extra_info": info, "stats": stats, "rate": rate, "state": state, "why": "no reason"}


RECORDS = [
    record(ONE_PASS["float32"], "fastlam", 1.0, rate=399.0),
    record(PATHS, "fastlam", 1.0),
    record(PATHS, "fastlam, out=", 1.0, rate=350.0),
    record(PATHS, "torch a", 5.5, ours=False),
    record(PATHS, "torch b", 5.1, ours=False),
    record(PATHS, "CuPy", 4.0, ours=False, state="left out"),
    record(PATHS, STEPS, 2.0, ours=False),  # no cumsum
    record(LARGE, "fastlam", 1.0, rate=3600.0),
    record(LIMITS, COPYING, 1.0, ours=False, rate=4200.0),
]


def test_targets():
    lines = [targets.cells(target, RECORDS) for target in targets.TARGETS]
    assert lines[0] == (ONE_PASS["float32"], "400 G normals/s", "399 G normals/s", "**no**")
    assert lines[1][2:] == ("not measured", "")
    assert lines[2][2:] == ("350 G normals/s", "yes")
    assert lines[3][1:] == ("5x torch b", "5.1x", "yes")
    assert lines[5][1:] == ("0.9x copying", "0.857x", "**no**")
    assert lines[6][2:] == ("not measured", "")  # no baseline


DESCRIPTION = {
    "card": "NVIDIA H100 80GB HBM3",
    "facts": [["python", "3.12.3"], ["torch", "2.11.0"], ["nvvm", "/usr/libnvvm.so"]],
    "missing": [{"piece": "cupy", "costs": "its baselines are left out", "remedy": "pip", "needed": False}],
    "nvvm": "/usr/libnvvm.so",
}
KERNEL = dict.fromkeys(report.PROFILE, "1")


def commanded(monkeypatch, tmp_path, stages, *arguments, description=DESCRIPTION):
    """(exit code, document or None) of `make gpu` with these stages."""
    monkeypatch.setattr(machine, "pointed", lambda env: (description, env, ""))
    monkeypatch.setattr(machine, "clocks", lambda: "clocks.sm 345 MHz")
    monkeypatch.setattr(gpu, "STAGES", stages)
    code = gpu.main(["--out", str(tmp_path), *arguments])
    file = tmp_path / "nvidia-h100-80gb-hbm3.json"
    return code, json.loads(file.read_text()) if file.exists() else None


def passed(run):
    run.document["benchmarks"] = [*RECORDS, record(LARGE, "torch eager", 1.0, ours=False, state="left out")]
    run.document["profile"] = {
        "limits": {COPYING: 4200.0},
        "calls": [{"name": "simulate float32", "about": "as asked", "kernels": [KERNEL]}],
    }
    run.add("benchmarks", 10.0, 1.0, "all", [])


def test_results_are_written(monkeypatch, tmp_path):
    code, document = commanded(monkeypatch, tmp_path, {"benchmarks": passed})
    assert code == 0  # a speed that is not reached is no failure
    assert document["card"] == DESCRIPTION["card"]
    assert document["benchmarks"][0] == RECORDS[0]
    text = (tmp_path / "nvidia-h100-80gb-hbm3.md").read_text()
    for line in (
        "# NVIDIA H100 80GB HBM3, 20",
        "python 3.12.3; torch 2.11.0; nvvm found",
        "* missing: cupy: its baselines are left out. Remedy: pip",
        "* clocks.sm 345 MHz",
        f"| {ONE_PASS['float32']} | 400 G normals/s | 399 G normals/s | **no** |",
        f"### {PATHS}",
        f"* {LARGE}: torch eager: left out: no reason",
        "Limits: copying 4,200 G/s.",
        "### simulate float32",
        "* benchmarks: 1 s of 10 s: all",
    ):
        assert line in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "nvidia-h100-80gb-hbm3.json",
        "nvidia-h100-80gb-hbm3.md",
    ]


def test_a_fault_of_any_stage_fails_and_the_others_run(monkeypatch, tmp_path, capsys):
    failed = lambda run: run.add("tests", 1.0, 1.0, "1 failed", ["failed: test_a"])  # noqa: E731
    code, document = commanded(monkeypatch, tmp_path, {"tests": failed, "benchmarks": passed})
    assert code == 1
    assert document["faults"] == ["tests: failed: test_a"]
    assert [found["name"] for found in document["stages"]] == ["tests", "benchmarks"]
    assert "make gpu: tests: failed: test_a" in capsys.readouterr().err


def test_nothing_runs_without_what_is_needed(monkeypatch, tmp_path, capsys):
    missing = [{"piece": "a card", "costs": "nothing runs", "remedy": "find one", "needed": True}]
    description = {**DESCRIPTION, "missing": missing}
    monkeypatch.setattr(gpu, "ENVIRONMENT", tmp_path / ".venv" / "bin" / "python")
    assert commanded(monkeypatch, tmp_path, {"benchmarks": passed}, description=description) == (2, None)
    printed = capsys.readouterr()
    assert "missing: a card: nothing runs. Remedy: find one" in printed.out
    assert "PYTHON=" not in printed.err
    gpu.ENVIRONMENT.parent.mkdir(parents=True)
    gpu.ENVIRONMENT.touch()
    assert commanded(monkeypatch, tmp_path, {"benchmarks": passed}, description=description) == (2, None)
    assert "there is an environment here: make gpu PYTHON=.venv/bin/python" in capsys.readouterr().err


def test_a_stage_for_which_no_time_is_left_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "TOTAL", gpu.SHORTEST - 1)
    code, document = commanded(monkeypatch, tmp_path, {"benchmarks": passed})
    assert (code, document["benchmarks"]) == (0, [])
    assert document["stages"][0]["said"] == "left out: no time was left"
    code, document = commanded(monkeypatch, tmp_path, {"tests": passed})
    assert (code, document["faults"]) == (1, ["tests: left out: no time was left"])


def test_the_time_of_all_stages_is_bounded():
    now = iter([10.0, gpu.TOTAL - 20, gpu.TOTAL + 1])
    run = gpu.Run({}, {}, Path(), gpu.TOTAL, lambda: next(now))
    assert [run.limit("tests") for _ in range(3)] == [gpu.LIMITS["tests"], 20.0, 0.0]
    assert gpu.TOTAL + stage.GRACE < 8 * 60


@pytest.fixture
def run(tmp_path):
    document = {"stages": [], "faults": [], "tests": {}, "benchmarks": [], "profile": {}}
    return gpu.Run(dict(os.environ), document, tmp_path, gpu.TOTAL, lambda: 0.0)


def ends(monkeypatch, code, late=False, **files):
    """Have every stage end so, with what it has left in its folder."""

    def ended(command, limit, env, folder, log=None):
        for option, text in files.items():
            if f"--{option}" in command:
                Path(command[command.index(f"--{option}") + 1]).write_text(text)
        return stage.Ended(code, 5.0, late)

    monkeypatch.setattr(stage, "run", ended)


@pytest.mark.parametrize(
    ("code", "late", "left", "faults"),
    [
        (0, False, RECORDS, []),
        (1, False, [record("g", "r", 1.0, state="wrong")], ["benchmarks: g: r: wrong: no reason", "ended with 1"]),
        (-11, False, RECORDS, ["ended with -11"]),
        (-2, True, RECORDS, []),  # stopped: what was measured stands
        (0, False, [], ["nothing was measured"]),
    ],
)
def test_benchmarks_and_what_they_leave(code, late, left, faults, run, monkeypatch):
    ends(monkeypatch, code, late, out=json.dumps(left))
    gpu.benchmarks(run)
    assert run.document["benchmarks"] == left
    assert len(run.document["faults"]) == len(faults)
    for found, fault in zip(run.document["faults"], faults, strict=True):
        assert fault in found


def test_a_profile_that_breaks_off_is_kept(run, monkeypatch):
    ends(monkeypatch, 1, json=json.dumps({"limits": {}, "calls": [{}, {}]}))
    gpu.profile(run)
    assert run.document["stages"][0]["said"] == "2 calls"
    assert run.document["faults"] == ["profile: ended with 1"]


def test_tests_that_were_stopped_are_a_fault(run, monkeypatch):
    (run.folder / "tests.xml").write_text('<testsuite><testcase classname="a" name="b" /></testsuite>')
    ends(monkeypatch, -2, late=True)
    gpu.tests(run)
    assert run.document["faults"] == ["tests: stopped after 5 s: not all tests have run"]


def test_the_sanitizer_runs_both_tools_or_says_that_it_is_missing(run, monkeypatch):
    monkeypatch.setattr(sanitizer, "tool", lambda: None)
    gpu.sanitized(run)
    monkeypatch.setattr(sanitizer, "tool", lambda: "/bin/compute-sanitizer")
    for what in sanitizer.TOOLS:
        (run.folder / f"{what}.log").write_text("ERROR SUMMARY: 2 errors")
    ends(monkeypatch, sanitizer.FOUND)
    gpu.sanitized(run)
    assert run.document["stages"][0]["said"].startswith("compute-sanitizer: missing: ")
    assert len(run.document["faults"]) == 2
