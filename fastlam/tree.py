"""The tree of additions above what kernels add: neighbours fold, whatever is missing counts as zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def fold_neighbours(nodes: np.ndarray) -> np.ndarray:
    """Add neighbours along the first axis until one is left."""
    while len(nodes) > 1:
        pairs = nodes[0 : len(nodes) - 1 : 2] + nodes[1::2]
        nodes = np.concatenate([pairs, nodes[-1:]]) if len(nodes) % 2 else pairs
    return nodes[0].copy()


def fold_in_order(nodes: Iterable[Any]) -> Any:
    """The same of nodes that come one after the other, holding no more of them than the tree is high."""
    tree: list[tuple[int, Any]] = []  # by level, the highest first
    for node in nodes:
        level = 0
        while tree and tree[-1][0] == level:
            level, node = level + 1, tree.pop()[1] + node
        tree.append((level, node))
    total = tree.pop()[1]
    while tree:
        total = tree.pop()[1] + total
    return total
