"""What `fastlam fit`, `fastlam simulate` and `fastlam info` take and do. What they print of a fit: report.py.

`fastlam calibrate`: calibrate_command.py.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import typer

import fastlam
from fastlam import arrays, calibrate_command, options
from fastlam.data import check_target, load_paths, load_targets, load_times, new_npy, save_paths
from fastlam.devices import beside, check_device
from fastlam.progress_bar import Advance, progress_bar
from fastlam.readers import check_suffix
from fastlam.training import checked_training
from fastlam.version import version as version_of_fastlam

SLICE = 2**24  # elements simulated at a time into a .npy file

app = typer.Typer(add_completion=False, cls=options.Group)
app.command("calibrate", cls=options.Command)(calibrate_command.calibrate)


@app.callback(invoke_without_command=True)
def fastlam_itself(
    context: typer.Context,
    version: options.Version = False,
    debug: options.Debug = False,
) -> None:
    """Monte Carlo paths x of diffusions, and lam in the targets k: the mean over paths of lam * x**2 at each time."""
    if version:
        print("fastlam", version_of_fastlam())
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command(cls=options.Command)
def fit(
    context: typer.Context,
    paths: options.PathsFile = None,
    targets: options.TargetsFile = None,
    layout: options.LayoutOfPaths = options.Layout.TIMES,
    n_paths: options.NPaths = 20_000,
    n_times: options.NTimes = 1_000,
    dt: options.Dt = "1/250",
    horizon: options.Horizon = None,
    mu: options.Mu = 0.05,
    sigma: options.Sigma = 0.2,
    x0: options.X0 = 0.0,
    dtype: options.Dtype = options.Real.SINGLE,
    true_lam: options.TrueLam = 0.25,
    noise: options.Noise = 0.0,
    one_pass: options.OnePass = False,
    lam0: options.Lam0 = 0.0,
    optimizer: options.Optimizer = "adam",
    lr: options.Lr = "auto",
    epochs: options.Epochs = 20,
    batch_size: options.BatchSize = 32,
    holdout: options.Holdout = 0.2,
    seed: options.SeedOfFit = 0,
    out: options.OutFolder = Path(),
    threads: options.Threads = None,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Train lam on simulated paths, or on those of a file, and compare it with the closed form.

    Without options: 20,000 paths x 1,000 times, targets made with lam = 0.25, training from lam = 0 on shuffled times.
    The lam found on simulated paths is tried on as many others of the seed's family.
    """
    from fastlam import fitted, report  # now: what they need for the picture should be known missing before the work

    given = options.given_options(context)
    options.check_fit(given)
    options.check_made_targets(true_lam, noise)
    rate = lr if lr == "auto" else options.number("--lr", lr, "a number or auto")
    files = out / "fit.json", out / "fit.png"
    options.make_folder(out, *files)
    options.use_threads(threads)
    where = check_device("--device", device)
    start = time.perf_counter()
    with progress_bar("paths") as advance, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fit: not settled")  # said under the table, whatever --lr
        training = checked_training(
            lam0=lam0, optimizer=optimizer, lr=rate, epochs=epochs, batch_size=batch_size, holdout=holdout, seed=seed,
            progress=lambda done, total: advance("train", done, total),
        )  # fmt: skip
        if paths is not None and targets is not None:
            x, k = _load(paths, targets, layout.value)
            times, read = _times_to_draw(paths, len(x)), time.perf_counter() - start
            advance("means", 0, 0)
            done = fitted.fit_read(x, k, times, training, read, where)
        else:
            times = options.time_grid(n_times, dt, horizon, given)
            process = fastlam.Brownian(mu=mu, sigma=sigma, x0=x0)
            problem = fitted.Simulated(process, times, n_paths, seed, dtype.value, true_lam, noise, where)
            done = (fitted.fit_in_one_pass if one_pass else fitted.fit_stored)(problem, training, advance)
    report.report(done, options.that_made_fit(context), files)
    _check_converged(done.result, rate)


@app.command(cls=options.Command)
def simulate(
    context: typer.Context,
    out: options.OutFile,
    n_paths: options.NPaths = 20_000,
    n_times: options.NTimes = 1_000,
    dt: options.Dt = "1/250",
    horizon: options.Horizon = None,
    mu: options.Mu = 0.05,
    sigma: options.Sigma = 0.2,
    x0: options.X0 = 0.0,
    dtype: options.Dtype = options.Real.SINGLE,
    seed: options.SeedOfPaths = 0,
    first_path: options.FirstPath = 0,
    antithetic: options.Antithetic = False,
    layout: options.LayoutOfFile = options.Layout.TIMES,
    threads: options.Threads = None,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Write paths of a Brownian motion with drift to a file; a .npy may be larger than memory.

    It knows no other diffusion: fastlam.simulate and fastlam.data.save_paths do, in Python.
    """
    suffix = check_suffix(out)
    check_target(out)
    if first_path + options.at_least_one("--n-paths", n_paths) > 2**64:
        raise ValueError(f"--first-path + --n-paths must be at most 2**64, but is {first_path + n_paths}")
    options.use_threads(threads)
    where = check_device("--device", device)
    times = options.time_grid(n_times, dt, horizon, options.given_options(context))
    process = fastlam.Brownian(mu=mu, sigma=sigma, x0=x0)
    grid = beside(times, where)

    def draw(first: int, count: int, memory: np.ndarray | None = None) -> np.ndarray:
        x = fastlam.simulate(
            process, grid, count, seed=seed, dtype=dtype.value, first_path=first, antithetic=antithetic,
            out=memory if where is None else None,
        )  # fmt: skip
        return arrays.host_array(x, "simulate: x")

    start = time.perf_counter()
    with progress_bar("paths") as advance:
        if suffix == ".npy":
            _stream(draw, out, layout.value, (n_times, n_paths), dtype.value, first_path, advance)
        else:
            x = draw(first_path, n_paths)
            advance("write", 0, 0)
            save_paths(out, x, layout.value, **({"times": times} if suffix == ".npz" else {}))
    print(f"{out}: {n_times:,} times x {n_paths:,} paths, {dtype.value}, {layout.value}, "
          f"{out.stat().st_size / 1e6:,.1f} MB in {time.perf_counter() - start:.2f} s")  # fmt: skip


@app.command(cls=options.Command)
def info(debug: options.Debug = False) -> None:
    """Print versions, processor, threads, memory, and what of CUDA is there or missing."""
    from fastlam.info import facts

    for name, value in facts():
        print(f"{name:<14} {value}")


def _stream(
    draw: Callable[[int, int, np.ndarray], np.ndarray],
    path: Path,
    layout: str,
    shape: tuple[int, int],
    dtype: str,
    first_path: int,
    advance: Advance,
) -> None:
    """Simulate into a .npy file, some paths at a time: slices of the family are the same bits as the whole."""
    m, n = shape
    step = min(n, max(64, SLICE // m))
    arrays.check_memory(m * step * np.dtype(dtype).itemsize, f"--n-times {m:,}", "take fewer times")
    memory = np.empty((m, step), dtype)
    by_times = layout == options.Layout.TIMES
    with new_npy(path, (m, n) if by_times else (n, m), dtype) as put:
        for start in range(0, n, step):
            count = min(step, n - start)
            x = draw(first_path + start, count, memory[:, :count])
            put(*((x, 0, start) if by_times else (x.T, start, 0)))
            advance("paths", start + count, n)


def _load(paths: Path, targets: Path, layout: str) -> tuple[np.ndarray, np.ndarray]:
    x, k = load_paths(paths, layout), load_targets(targets)
    if len(x) != len(k):
        other = next(name.value for name in options.Layout if name != layout)
        remedy = f"; --layout {other} would fit" if x.shape[1] == len(k) else ""
        raise ValueError(
            f"--paths {paths} has shape {x.shape} as times by paths (--layout {layout}), but --targets {targets} has "
            f"shape {k.shape}, which must be one target for each time{remedy}"
        )
    return x, k


def _times_to_draw(paths: Path, m: int) -> np.ndarray | None:
    """The times in the file of the paths, if any; the fit needs none, so what is wrong with them is but a warning."""
    try:
        return load_times(paths, m)
    except (ValueError, TypeError) as error:
        warnings.warn(f"{error}; the picture shows positions", stacklevel=2)
        return None


def _check_converged(result: fastlam.FitResult, lr: float | str) -> None:
    """Raise FloatingPointError, with what to try instead, if training diverged."""
    if math.isfinite(result.lam):
        return
    smaller = min(result.lr, result.max_stable_lr) / 2
    if lr == "auto":
        given, other = "auto", "another --optimizer or --lam0"
    else:
        given, other = f"{result.lr:.4g}", "--lr auto"
    raise FloatingPointError(f"training diverged with --lr {given}: try --lr {smaller:.3g}, or {other}")
