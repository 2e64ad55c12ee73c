"""What `fastlam fit` leaves behind: the table, fit.json and fit.png."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from fastlam import FitResult
from fastlam.data import atomic_write
from fastlam.fit_warnings import unsettled
from fastlam.plot import plot_fit
from fastlam.result_file import write_result

if TYPE_CHECKING:
    from fastlam.fitted import Fitted


def report(done: Fitted, options: dict[str, Any], files: tuple[Path, Path]) -> None:
    """Write fit.json and fit.png, each whole or not at all, and print the table.

    Parameters
    ----------
    done : Fitted
        The fit, and what of its making is reported.
    options : dict
        Of the command, by name: those that make the result again; `true_lam` among them if it is known.
    files : (Path, Path)
        Where fit.json and fit.png go.
    """
    start, result = time.perf_counter(), done.result
    with atomic_write(files[1]) as temporary:
        figure = plot_fit(result, paths=done.drawn, times=done.times, n_paths=done.n_paths)
        figure.savefig(temporary, format="png")
    seconds = {**done.seconds, "draw": time.perf_counter() - start}
    other, true_lam = done.holdout_paths_loss, options.get("true_lam")
    write_result(files[0], result, options, holdout_paths_loss=other, true_lam=true_lam, seconds=seconds)
    print(
        f"{done.n_paths:,} paths x {len(result.targets):,} times; {result.optimizer}, {result.epochs:,} epochs in "
        f"batches of {result.batch_size:,}"
    )
    Console(highlight=False).print(_table(result, true_lam, other, seconds))
    print("seconds: with the compiling of kernels, which takes most of them where paths are few")
    if sentence := unsettled(result):
        print(sentence)
    print("wrote", *files)


def _table(result: FitResult, true_lam: float | None, other: float | None, seconds: dict[str, float]) -> Table:
    loss = "none held out" if result.holdout_loss is None else f"{result.holdout_loss:.3g}"
    rows = [
        ("true lam", None if true_lam is None else f"{true_lam:.8g}"),
        ("trained lam", f"{result.lam:.8g}"),
        ("closed-form lam", f"{result.closed_form:.8g}"),
        ("trained - closed form", f"{result.difference:.2g}"),
        ("standard error", f"{result.stderr:.2g}"),
        ("hold-out loss", loss),
        ("loss on other paths", None if other is None else f"{other:.3g}"),
        ("largest stable lr (sgd)", f"{result.max_stable_lr:.4g}"),
        ("lr", f"{result.lr:.4g}"),
        *((f"seconds: {part}", f"{spent:.2f}") for part, spent in seconds.items()),
    ]
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in rows:
        if value is not None:
            table.add_row(name, value)
    return table
