"""Results as JSON: every field by its name."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def fields_of(result: DataclassInstance) -> dict[str, Any]:
    """All fields of a dataclass by their names."""
    return {field.name: getattr(result, field.name) for field in fields(result)}


def as_json(values: dict[str, Any]) -> str:
    """Arrays, lists and dictionaries of numbers as JSON; what is not finite, for which it has no word, becomes null."""
    return json.dumps(_plain(values), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
