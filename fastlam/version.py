"""The version of this installation, or of a checkout that is not installed."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path


def version() -> str:
    """As the installation has it, else as the checkout's pyproject.toml says.

    Examples
    --------
    >>> version().count(".") >= 2
    True
    """
    try:
        return importlib.metadata.version("fastlam")
    except importlib.metadata.PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
