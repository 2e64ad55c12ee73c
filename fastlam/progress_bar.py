"""The bar that commands move on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Advance = Callable[[str, int, int], None]


@contextmanager
def progress_bar(first: str) -> Iterator[Advance]:
    """A bar on the terminal, and the function that moves it: `advance(what, done, total)`, total 0 if unknown."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda part, done, total: None
        return
    what, count = TextColumn("{task.description:<8}"), TextColumn("{task.fields[count]}")
    with Progress(what, BarColumn(), count, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task(first, total=None, count="")

        def advance(part: str, done: int, total: int) -> None:
            share = f"{done:,}/{total:,}" if total else ""
            whole = total > 0 and done == total  # drawn at once: the next part may hide it within a tick
            bar.update(task, description=part, completed=done, total=total or None, count=share, refresh=whole)

        yield advance
