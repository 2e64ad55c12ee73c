"""What `fastlam calibrate` takes, does and prints."""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

import fastlam
from fastlam import options, processes
from fastlam.data import load_targets
from fastlam.devices import check_device
from fastlam.options import PROBLEM, RUN, option
from fastlam.progress_bar import progress_bar
from fastlam.readers import read_array
from fastlam.result_file import write_result

TARGETS, PARAMETERS = "Targets", "Parameters: what stays, or where the search starts"

# Every diffusion of processes.py, CoxIngersollRoss as cox-ingersoll-ross; their parameters are options below.
PROCESSES: dict[str, type[fastlam.Process]] = {
    re.sub("(?<=.)(?=[A-Z])", "-", name).lower(): made
    for name, made in vars(processes).items()
    if isinstance(made, type) and issubclass(made, fastlam.Process) and made is not fastlam.Process
}
Kind = StrEnum("Kind", {name: name for name in PROCESSES})  # type: ignore[misc]

TargetsFile = Annotated[Path, option("Targets k, one for each time: .npy, .npz, .csv or .parquet.", TARGETS)]
TimesFile = Annotated[Path | None, option("Their times, in the same formats (of a .npz: times).", TARGETS, "--times")]
NTimes = Annotated[int | None, option("Number of times; by default that of the targets.", TARGETS)]
Dt = Annotated[str, option("Between two times: a number or a fraction.", TARGETS)]
Horizon = Annotated[float | None, option("The last time, instead of --dt.", TARGETS)]
ProcessKind = Annotated[  # its names in the help, whose words are not broken as a long type is
    Kind, option(f"The diffusion: {', '.join(PROCESSES)}.", PARAMETERS, "--process", metavar="<name>")
]
Learn = Annotated[str, option("What to estimate, commas between: lam, and parameters of the diffusion.", PARAMETERS)]
Lam = Annotated[float, option("What multiplies E x**2.", PARAMETERS)]
Mu = Annotated[float | None, option("Drift, growth, or mean in the long run of ornstein-uhlenbeck.", PARAMETERS)]
Sigma = Annotated[float | None, option("Volatility.", PARAMETERS)]
X0 = Annotated[float | None, option("Where paths start.", PARAMETERS)]
Theta = Annotated[
    float | None,
    option("Rate of return of ornstein-uhlenbeck; mean in the long run of cox-ingersoll-ross.", PARAMETERS),
]
Kappa = Annotated[float | None, option("Rate of return of cox-ingersoll-ross.", PARAMETERS)]
NPaths = Annotated[int, option("Number of training paths, and of validation paths.", PROBLEM)]
OutFolder = Annotated[Path, option("Folder for calibrate.json.", RUN)]


def calibrate(
    context: typer.Context,
    targets: TargetsFile,
    times: TimesFile = None,
    n_times: NTimes = None,
    dt: Dt = "1/250",
    horizon: Horizon = None,
    process: ProcessKind = Kind("brownian"),  # noqa: B008
    learn: Learn = "sigma",
    lam: Lam = 1.0,
    mu: Mu = None,
    sigma: Sigma = None,
    x0: X0 = None,
    theta: Theta = None,
    kappa: Kappa = None,
    n_paths: NPaths = 2**16,
    seed: options.SeedOfPaths = 0,
    antithetic: options.Antithetic = False,
    dtype: options.Dtype = options.Real.DOUBLE,
    out: OutFolder = Path(),
    threads: options.Threads = None,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Estimate lam and parameters of a diffusion from targets k = lam * E x**2, and say what k cannot tell apart.

    Fails (exit code 1), once all is written, if k does not identify what it should learn.
    """
    given = options.given_options(context)
    diffusion = _process(process.value, {"mu": mu, "sigma": sigma, "x0": x0, "theta": theta, "kappa": kappa})
    names = tuple(name.strip() for name in learn.split(","))
    _check_learn(names, diffusion)
    file = out / "calibrate.json"
    options.make_folder(out, file)
    options.use_threads(threads)
    where = check_device("--device", device)
    k = load_targets(targets)
    grid = _times(times, targets, len(k), n_times, dt, horizon, given)
    with progress_bar("search") as advance, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="calibrate: not ")  # said below
        result = fastlam.calibrate(
            diffusion, grid, k, learn=names, lam=lam, n_paths=n_paths, seed=seed, antithetic=antithetic,
            dtype=dtype.value, progress=lambda done, total: advance("search", done, total), device=where,
        )  # fmt: skip
    _report(result, file, options.that_made(context.params, ("dt",) if times is not None else ()))
    if not result.identified:
        raise FloatingPointError(f"not identified: {'; '.join(result.unidentified)}")
    if not result.converged:
        raise FloatingPointError(f"not converged in {result.iterations} steps: start nearer to the answer")


def _process(kind: str, given: dict[str, float | None]) -> fastlam.Process:
    """The diffusion with these parameters, None for its own default."""
    made = PROCESSES[kind]
    accepted = {field.name: field for field in dataclasses.fields(made)}  # type: ignore[arg-type]
    values = {name: value for name, value in given.items() if value is not None}
    for name in values:
        if name not in accepted:
            raise ValueError(f"--{name} is no parameter of {kind}, which has {', '.join(accepted)}")
    for name, field in accepted.items():
        if field.default is dataclasses.MISSING and name not in values:
            raise ValueError(f"{kind} needs --{name}, which has no default")
    return made(**values)


def _check_learn(names: tuple[str, ...], process: fastlam.Process) -> None:
    accepted = ("lam", *process.parameters())
    if len(set(names)) < len(names) or not set(names) <= set(accepted):
        raise ValueError(f"--learn must be some of {','.join(accepted)}, each once, but is {','.join(names)}")


def _times(
    file: Path | None, targets: Path, m: int, n_times: int | None, dt: str, horizon: float | None, given: set[str]
) -> np.ndarray:
    """The times of the m targets."""
    if file is None:
        grid = options.time_grid(m if n_times is None else n_times, dt, horizon, given)
        name = "--n-times"
    else:
        for other in ("n_times", "dt", "horizon"):
            if other in given:
                raise ValueError(f"--{other.replace('_', '-')} and --times both say where times are: give one of them")
        grid, name = np.array(read_array(file, "times"), np.float64), f"--times {file}"
        if grid.size != max(grid.shape, default=0):
            raise ValueError(f"{name} holds an array of shape {grid.shape}, but times are one number each")
        grid = grid.reshape(-1)
    if len(grid) != m:
        raise ValueError(f"{name} gives {len(grid):,} times, but --targets {targets} holds {m:,} targets")
    return grid


def _report(result: fastlam.CalibrationResult, file: Path, made_by: dict[str, Any]) -> None:
    """Write calibrate.json, whole or not at all, and print the table."""
    write_result(file, result, made_by)
    print(f"{result.n_paths:,} paths x {len(result.times):,} times; {result.process}; {result.iterations} steps")
    table = Table(box=box.SIMPLE)
    for title in ("parameter", "start", "estimate", "standard error", "Monte Carlo error"):
        table.add_column(title, justify="left" if title == "parameter" else "right")
    for name, estimate in result.estimates.items():
        errors = [_error(errors[name]) for errors in (result.stderr, result.monte_carlo_stderr)]
        shown = "not identified" if estimate is None else f"{estimate:.6g}"
        table.add_row(name, f"{result.start[name]:.6g}", shown, *errors)
    Console(highlight=False).print(table)
    print(f"loss {result.loss:.3g}; on other paths {result.validation_loss:.3g}; rank {result.rank} of "
          f"{len(result.estimates)}; condition {result.condition:.3g}")  # fmt: skip
    print("wrote", file)


def _error(error: float) -> str:
    return f"{error:.2g}" if math.isfinite(error) else "unknown"
