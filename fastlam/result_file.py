"""The file that a command leaves of its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlam.data import atomic_write
from fastlam.result_json import as_json, fields_of
from fastlam.version import version

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def write_result(file: Path, result: DataclassInstance, options: dict[str, Any], **more: Any) -> None:
    """Write a result as JSON, whole or not at all: its fields, `more`, and the options and version that made it."""
    made_by = {"options": options, "fastlam": version()}
    with atomic_write(file) as temporary:
        temporary.write_text(as_json(fields_of(result) | more | made_by) + "\n", encoding="utf-8")
