"""Files that are written whole or not at all: a stage may be stopped at any time."""

from __future__ import annotations

import os
from pathlib import Path


def write(file: Path, text: str) -> None:
    """Put a file with this text in the place of the one that is there."""
    half = file.with_name(f".{file.name}.half")
    half.write_text(text)
    os.replace(half, file)
