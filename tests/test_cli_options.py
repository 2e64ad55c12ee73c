"""Options: named as the functions' arguments, with their defaults, and all in --help."""

import inspect
import re

import pytest
import torch
import typer

import fastlam
from fastlam import calibrate_command, commands, options


def command(name: str):
    return typer.main.get_command(commands.app).commands[name]


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


def test_calibrate_has_options_for_the_arguments_of_calibrate(fastlam_):
    """And for the parameters of the diffusions."""
    arguments = inspect.signature(fastlam.calibrate).parameters
    parameters = {parameter.name: parameter for parameter in command("calibrate").params}
    for name in set(arguments) - {"process", "times", "k", "learn", "dtype", "max_iterations", "progress"}:
        assert parameters[name].opts == [f"--{name.replace('_', '-')}"]
        assert parameters[name].default == arguments[name].default
    for kind in (fastlam.Brownian, fastlam.GeometricBrownian, fastlam.OrnsteinUhlenbeck, fastlam.CoxIngersollRoss):
        assert set(inspect.signature(kind).parameters) <= parameters.keys()
    code, stdout, _ = fastlam_("calibrate", "--help")
    assert code == 0
    assert all(parameter.opts[0] in stdout for parameter in parameters.values())


@pytest.mark.parametrize("columns", [80, 140])
def test_help_breaks_no_name_of_a_diffusion(fastlam_, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, stdout, _ = fastlam_("calibrate", "--help")
    assert code == 0
    assert all(re.search(rf"(?<!\w){name}(?!\w)", stdout) for name in calibrate_command.PROCESSES)
    assert not re.search(r"cox-ingers(?!oll-ross)", stdout)


PUBLIC = [getattr(fastlam, name) for name in fastlam.__all__]
DIFFUSIONS = [
    kind
    for kind in PUBLIC
    if isinstance(kind, type) and issubclass(kind, fastlam.Process) and kind not in (fastlam.Process, fastlam.Diffusion)
]


@pytest.mark.parametrize("diffusion", DIFFUSIONS, ids=lambda kind: kind.__name__)
def test_calibrate_has_every_diffusion_and_an_option_for_each_of_its_parameters(fastlam_, diffusion):
    """Which goes where its name says: the diffusion refuses it."""
    kind = next(kind for kind, made in calibrate_command.PROCESSES.items() if made is diffusion)
    for name in diffusion().parameters():
        code, _, stderr = fastlam_("calibrate", "--targets", "k.npy", "--process", kind, f"--{name}", "inf")
        assert (code, f"{diffusion.__name__}: {name} must be finite" in stderr) == (2, True), stderr


def test_help_and_version(fastlam_):
    code, stdout, stderr = fastlam_()
    assert (code, stderr) == (0, "")
    assert all(name in stdout for name in ("fit", "calibrate", "simulate", "info"))
    assert fastlam_("--help")[0] == 0
    code, stdout, _ = fastlam_("--version")
    assert (code, stdout) == (0, "fastlam 0.1.0\n")


@pytest.mark.parametrize(
    ("text", "value"), [("1/250", 0.004), ("0.004", 0.004), ("4e-3", 0.004), ("2", 2.0), ("-1/4", -0.25)]
)
def test_numbers(text, value):
    assert options.number("--dt", text) == value


@pytest.mark.parametrize("arguments", [[], ["fit"], ["simulate"], ["info"]], ids=" ".join)
def test_flags_have_no_type_in_help(fastlam_, arguments):
    code, stdout, _ = fastlam_(*arguments, "--help")
    assert code == 0
    lines = {
        name: line
        for line in stdout.splitlines()
        for name in ("--help ", "--debug ", "--antithetic ", "--one-pass ")
        if name in line
    }
    assert len(lines) == (2 + (arguments in (["simulate"], ["fit"])))
    assert not any("<" in line or "bool" in line.lower() for line in lines.values())
    assert "<int>" in stdout or arguments not in (["fit"], ["simulate"])


def test_as_many_threads_as_may_be(fastlam_, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    code, _, _ = fastlam_(
        "simulate", "--n-paths", 2, "--n-times", 2, "--threads", options.MAX_THREADS, "--out", "x.npy"
    )
    assert (code, asked) == (0, [1024])
