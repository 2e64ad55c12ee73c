"""What the card can do at most, measured in the run that quotes it: copying, and Philox alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from bench.card.place import Place
from bench.card.row import LIMITS, Row
from fastlam import reference

COPYING = "copying"
COPIED = 2**32  # bytes
BLOCK_NORMALS = {"float32": 4, "float64": 2}  # of a Philox block


def philox_of(dtype: str) -> str:
    """The name of the limit of paths in this dtype."""
    return f"Philox alone {dtype}"


def limits(place: Place) -> Iterator[Row]:
    """Bytes read and written by torch's copy; normals per second if their words were all the work."""
    n, note = place.fitting(COPIED if place.card else 2**16, 2.0)
    yield Row(LIMITS, COPYING, lambda: copying(place, n), work=(2.0 * n, "B"), note=note)
    if place.card:
        paths, blocks = place.sizes.n, place.sizes.m // 4
        for dtype, count in BLOCK_NORMALS.items():
            work = float(paths * blocks * count), " normals"
            yield Row(LIMITS, philox_of(dtype), lambda: philox_alone(paths, blocks), work=work)


def copying(place: Place, n: int) -> Callable[[], Any]:
    """A copy of n bytes by torch."""
    source = torch.empty(n // 4, device=place.device).normal_()
    target = torch.full_like(source, torch.nan)
    assert torch.equal(target.copy_(source), source)
    return lambda: target.copy_(source)


def philox_alone(n: int, blocks: int) -> Callable[[], Any]:
    """The words of so many blocks of n paths."""
    from bench.card import words  # now: it needs what compiles for cards

    out = torch.zeros(n, dtype=torch.int64, device="cuda")
    words.draw(out, blocks)
    check_words(out[:100].cpu().numpy(), blocks)
    return lambda: words.draw(out, blocks)


def check_words(drawn: np.ndarray, blocks: int) -> None:
    """Against the specification, for the first paths."""
    paths, counters = np.meshgrid(np.arange(len(drawn)), np.arange(blocks), indexing="ij")
    made = np.bitwise_xor.reduce(reference.philox((paths, 0, counters, 0), (7, 0)))  # of the four
    np.testing.assert_array_equal(drawn.view(np.uint64), np.bitwise_xor.reduce(made, axis=1))
