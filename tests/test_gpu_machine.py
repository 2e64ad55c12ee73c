"""What `make gpu` makes of a machine: what is missing, where NVVM is, what tests, stages and the sanitizer came to."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.card import machine, outcome, pieces, sanitizer, stage

ROOT = Path(__file__).parents[1]


def test_without_any_package_the_missing_are_named():
    """-S: Python sees no installed packages."""
    command = [sys.executable, "-S", "-m", "bench.card.pieces"]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": "."}, capture_output=True, text=True, check=True)
    missing = [pieces.Missing(**piece) for piece in json.loads(done.stdout)["missing"]]
    assert {piece.piece for piece in missing if piece.needed} == set(pieces.NEEDED)
    assert {piece.piece for piece in missing if not piece.needed} == set(pieces.OPTIONAL)


def test_an_old_python_is_named(monkeypatch):
    monkeypatch.setattr(pieces, "OLDEST", (99, 0))
    assert next(piece.piece for piece in pieces.look()[1] if piece.needed) == "Python 99.0"


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
