"""The options that commands share, what they mean, and which do not go together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import typer.core

from fastlam import arrays
from fastlam.data import check_target

SIMULATED = ("n_paths", "n_times", "dt", "horizon", "mu", "sigma", "x0", "dtype", "true_lam", "noise", "one_pass")
READ = ("paths", "targets", "layout")
NOT_IN_THE_RESULT = ("one_pass", "out", "threads", "device", "debug")  # no bit of it depends on them
MAX_THREADS = 1024  # more than any machine is served by; some ten thousand can crash the process


class Layout(StrEnum):
    """What the rows and columns of a file are."""

    TIMES = "times-by-paths"
    PATHS = "paths-by-times"


class Real(StrEnum):
    """Precision of paths."""

    SINGLE = "float32"
    DOUBLE = "float64"


def option(help: str, panel: str, *names: str, **more: Any) -> Any:
    """typer.Option with its help and the panel of --help that it stands in."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


class Command(typer.core.TyperCommand):
    """A command whose flags stand in --help without a type, which goes without saying."""

    def get_params(self, ctx: Any) -> Any:
        """As typer's, with nothing to show for the type of a flag."""
        return _without_types(super().get_params(ctx))


class Group(typer.core.TyperGroup):
    """The same for the command that holds the others."""

    def get_params(self, ctx: Any) -> Any:
        """As typer's, with nothing to show for the type of a flag."""
        return _without_types(super().get_params(ctx))


def _without_types(parameters: Any) -> Any:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


DATA, PROBLEM, TRAINING, RUN = "Paths from files", "Simulated paths", "Training", "This run"

PathsFile = Annotated[Path | None, option("Paths x: .npy, .npz (its times are drawn), .csv or .parquet.", DATA)]
TargetsFile = Annotated[Path | None, option("Targets k, one for each time; the same formats.", DATA)]
LayoutOfPaths = Annotated[Layout, option("Rows by columns of --paths.", DATA)]

NPaths = Annotated[int, option("Number of paths.", PROBLEM)]
NTimes = Annotated[int, option("Number of times.", PROBLEM)]
Dt = Annotated[str, option("Between two times: a number or a fraction.", PROBLEM)]
Horizon = Annotated[float | None, option("The last time, instead of --dt.", PROBLEM)]
Mu = Annotated[float, option("Drift.", PROBLEM)]
Sigma = Annotated[float, option("Volatility.", PROBLEM)]
X0 = Annotated[float, option("Where paths start.", PROBLEM)]
Dtype = Annotated[Real, option("Precision of the paths.", PROBLEM)]
TrueLam = Annotated[float, option("The lam that makes the targets.", PROBLEM)]
Noise = Annotated[float, option("Standard deviation of the targets' relative noise.", PROBLEM)]
OnePass = Annotated[
    bool, option("Keep no path in memory: any number of them will do. fit.png shows none.", PROBLEM, "--one-pass")
]
SeedOfPaths = Annotated[int, option("Of the paths: it names an endless family of them.", PROBLEM)]
FirstPath = Annotated[int, option("Number of the first path in the family.", PROBLEM)]
Antithetic = Annotated[bool, option("Negate the noise of every other path.", PROBLEM, "--antithetic")]

Lam0 = Annotated[float, option("Where training starts.", TRAINING)]
Optimizer = Annotated[str, option("Name of a torch.optim class, in any case.", TRAINING)]
Lr = Annotated[str, option("Learning rate: a number or auto.", TRAINING)]
Epochs = Annotated[int, option("Passes over the training times.", TRAINING)]
BatchSize = Annotated[int, option("Times in a batch.", TRAINING)]
Holdout = Annotated[float, option("Share of the times that is not trained on.", TRAINING)]

SeedOfFit = Annotated[int, option("Of the paths, the noise, the hold-out and the shuffling.", RUN)]
OutFolder = Annotated[Path, option("Folder for fit.json and fit.png.", RUN)]
OutFile = Annotated[Path, option("File: .npy, .npz (with times), .csv or .parquet.", RUN)]
LayoutOfFile = Annotated[Layout, option("Rows by columns of the file.", RUN)]
Threads = Annotated[int | None, option(f"Number of threads, at most {MAX_THREADS}; by default torch's.", RUN)]
Device = Annotated[str | None, option("Where it is computed: cuda, cuda:1 for the second GPU; by default cpu.", RUN)]
Version = Annotated[bool, option("Print the version.", RUN, "--version")]
Debug = Annotated[bool, option("Show the trace of an error.", RUN, "--debug")]


def given_options(context: typer.Context) -> set[str]:
    """Names of the options that stood on the command line."""
    return {name for name in context.params if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"}


def that_made(values: dict[str, Any], idle: Iterable[str]) -> dict[str, Any]:
    """Those of a command's options that make its result again, by name; the `idle` had no part in it."""
    without = {*NOT_IN_THE_RESULT, *idle, *(("dt",) if values["horizon"] is not None else ())}
    return {
        name: str(value) if isinstance(value, (Path, StrEnum)) else value
        for name, value in values.items()
        if name not in without and value is not None
    }


def that_made_fit(context: typer.Context) -> dict[str, Any]:
    """The options of a fit that make its result again, by name."""
    values = {str(parameter.name): context.params.get(parameter.name or "") for parameter in context.command.params}
    return that_made(values, SIMULATED if values["paths"] is not None else READ)


def check_fit(given: set[str]) -> None:
    """Refuse options that do not go together."""
    for one, other in (("paths", "targets"), ("targets", "paths"), ("layout", "paths")):
        if one in given and other not in given:
            raise ValueError(f"--{one} needs --{other}")
    for name in SIMULATED:
        if name in given and "paths" in given:
            raise ValueError(f"--{name.replace('_', '-')} is about simulated paths, but --paths reads them from a file")


def check_made_targets(true_lam: float, noise: float) -> None:
    """Refuse what no targets can be made with."""
    if not math.isfinite(true_lam):
        raise ValueError(f"--true-lam must be finite, but is {true_lam}")
    if not 0 <= noise < math.inf:
        raise ValueError(f"--noise must be finite and at least 0, but is {noise}")


def at_least_one(name: str, value: int) -> int:
    """`value`, checked."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, but is {value}")
    return value


def use_threads(count: int | None) -> None:
    """Compute with the number of --threads, checked; None leaves torch's."""
    if count is None:
        return
    if at_least_one("--threads", count) > MAX_THREADS:
        raise ValueError(f"--threads must be at most {MAX_THREADS}, but is {count}")
    torch.set_num_threads(count)


def make_folder(out: Path, *files: Path) -> None:
    """Make the folder of --out, and see that its files can be written."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out {out} must be a folder, but is a file")
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        check_target(file)


def time_grid(n_times: int, dt: str, horizon: float | None, given: set[str]) -> np.ndarray:
    """The times (m,) of --n-times with --dt or --horizon."""
    arrays.check_memory(64 * at_least_one("--n-times", n_times), f"--n-times {n_times:,}", "take fewer times")
    positions = np.arange(1, n_times + 1)
    if horizon is None:
        step = number("--dt", dt)
    elif "dt" in given:
        raise ValueError("--dt and --horizon both say where times are: give one of them")
    else:
        step = horizon / n_times
    if not 0 < step < math.inf:
        name = "--dt" if horizon is None else "--horizon"
        raise ValueError(f"{name} must be finite and above 0, but is {dt if horizon is None else horizon}")
    if not math.isfinite(n_times * step):  # Python's product, which does not warn
        raise ValueError(f"--dt must be at most 1.8e308 / --n-times, but is {dt} with --n-times {n_times}")
    return positions * step


def number(name: str, text: str, accepted: str = "a number") -> float:
    """The number in an option's text, which may be a fraction."""
    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"{name} must be {accepted}, but is {text!r}") from None
