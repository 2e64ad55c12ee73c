"""`make gpu` where there is no card: what it says of what is missing, what it makes of what its stages leave."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import gpu
from bench.card import machine, outcome, pieces, report, sanitizer, stage, targets
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


def test_without_any_package_the_missing_are_named():
    """-S: Python sees no installed packages."""
    command = [sys.executable, "-S", "-m", "bench.card.pieces"]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": "."}, capture_output=True, text=True, check=True)
    missing = [pieces.Missing(**piece) for piece in json.loads(done.stdout)["missing"]]
    assert {piece.piece for piece in missing if piece.needed} == set(pieces.NEEDED)
    assert {piece.piece for piece in missing if not piece.needed} == set(pieces.OPTIONAL)


def test_a_compiler_that_does_not_work_is_told_with_where_to_point(monkeypatch):
    from fastlam.kernels import cuda_launch

    def broken(*arguments):
        raise OSError("libnvvm.so.4: cannot open")

    monkeypatch.setattr(cuda_launch, "cubin", broken)
    (missing,) = pieces._compiles()
    assert missing.needed
    assert "OSError: libnvvm.so.4: cannot open" in missing.piece
    monkeypatch.setattr(pieces, "library", lambda name: "")
    (missing,) = pieces._compiles()
    assert "set CUDA_HOME to a CUDA toolkit that has nvvm/" in missing.remedy


def test_toolkits_with_nvvm_are_found_unless_one_is_pointed_at(tmp_path):
    library = tmp_path / "cuda" / "nvvm" / "lib64" / "libnvvm.so"
    library.parent.mkdir(parents=True)
    library.touch()
    places = [str(tmp_path / "cuda"), str(tmp_path / "none")]
    assert machine.toolkits({"PATH": ""}, places) == places[:1]
    assert machine.toolkits({"PATH": "", "CUDA_HOME": "/somewhere"}, places) == []


def test_nvvm_is_pointed_at_where_that_helps(monkeypatch):
    needed = [{"piece": "a compiler", "costs": "nothing runs", "remedy": "", "needed": True}]
    found = {None: {"nvvm": "", "missing": needed}, "/b": {"nvvm": "/b/nvvm/lib64/libnvvm.so", "missing": []}}
    monkeypatch.setattr(machine, "found", lambda env: found.get(env.get("CUDA_HOME"), found[None]))
    monkeypatch.setattr(machine, "toolkits", lambda env: ["/a", "/b"])
    description, env, line = machine.pointed({"PATH": ""})
    assert (description, env) == (found["/b"], {"PATH": "", "CUDA_HOME": "/b"})
    assert line == "NVVM: found with CUDA_HOME=/b, which is set for this run alone"
    monkeypatch.setattr(machine, "toolkits", lambda env: ["/a"])
    assert machine.pointed({"PATH": ""}) == (found[None], {"PATH": ""}, "")


def test_a_look_at_the_machine_that_breaks_is_a_missing_piece(monkeypatch):
    monkeypatch.setattr(machine.sys, "executable", "/bin/false")
    (piece,) = machine.found(dict(os.environ))["missing"]
    assert piece["needed"]
    assert piece["piece"].startswith("looking at this machine ended with 1")


XML = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_one" />
<testcase classname="tests.test_a" name="test_two"><failure message="assert 1 == 2">a
long text</failure></testcase>
<testcase classname="" name="tests.test_b">
<skipped message="collection skipped">('b.py', 3, 'Skipped: REASON')</skipped></testcase></testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("reason", "waits"),
    [
        ("waits for a second GPU", True),
        ("waits for a machine with two GPUs", True),
        ("waits for an NVIDIA GPU", False),
        ("waits for CuPy", False),
    ],
)
def test_only_a_second_gpu_may_be_waited_for(reason, waits, tmp_path):
    file = tmp_path / "tests.xml"
    file.write_text(XML.replace("REASON", reason))
    found = outcome.outcome(file)
    assert found.passed == 1
    assert found.failed == ["tests.test_a.test_two: assert 1 == 2 a long text"]
    assert len(found.waiting) == waits
    assert len(found.skipped) == (not waits)
    assert len(found.faults()) == 2 - waits


@pytest.mark.parametrize("text", [None, "<testsuites><testsu", "<testsuites></testsuites>"])
def test_a_report_without_tests_is_a_fault(text, tmp_path):
    file = tmp_path / "tests.xml"
    if text is not None:
        file.write_text(text)
    assert "no test marked gpu has passed" in outcome.outcome(file).faults()


def test_a_stage_ends_with_its_code_and_its_log(tmp_path):
    log = tmp_path / "log"
    program = "import os; print(os.environ['A'], os.getcwd()); raise SystemExit(3)"
    ended = stage.run([sys.executable, "-c", program], 60, {"A": "b"}, tmp_path, log)
    assert (ended.code, ended.late) == (3, False)
    assert log.read_text() == f"b {tmp_path}\n"


def test_a_stage_that_hangs_is_stopped(tmp_path):
    program = "import signal; signal.pause()"
    ended = stage.run([sys.executable, "-c", program], 0, {}, tmp_path, tmp_path / "log")
    assert ended.late
    assert ended.code in (-signal.SIGINT, -signal.SIGKILL, 1, 130)  # however far Python's start had come


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
        "python 3.12.3; torch 2.11.0; nvvm /usr/libnvvm.so",
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
    assert commanded(monkeypatch, tmp_path, {"benchmarks": passed}, description=description) == (2, None)
    assert "missing: a card: nothing runs. Remedy: find one" in capsys.readouterr().out


def test_a_stage_for_which_no_time_is_left_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "TOTAL", gpu.SHORTEST - 1)
    code, document = commanded(monkeypatch, tmp_path, {"benchmarks": passed})
    assert (code, document["benchmarks"]) == (0, [])
    assert document["stages"][0]["said"] == "left out: no time was left"


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


@pytest.mark.parametrize(
    ("code", "late", "text", "line", "fault"),
    [
        (0, False, "26 answers\n========= ERROR SUMMARY: 0 errors\n", "clean (ERROR SUMMARY: 0 errors)", False),
        (sanitizer.FOUND, False, "========= Invalid read\n========= 3 errors\n", "found errors: Invalid read", True),
        (1, False, "========= Device not supported\n", "did not run here (exit code 1): ========= Device", False),
        (-9, True, "", "not finished in 5 s: nothing is known", False),
    ],
)
def test_sanitizer(code, late, text, line, fault, tmp_path):
    log = tmp_path / "log"
    log.write_text(text)
    found = sanitizer.verdict("memcheck", stage.Ended(code, 5.0, late), log)
    assert found.line.startswith(f"memcheck: {line}")
    assert found.fault == fault


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
