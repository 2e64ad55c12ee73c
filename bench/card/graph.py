"""CUDA graphs by torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

R = TypeVar("R")


def captured(call: Callable[[], R]) -> tuple[torch.cuda.CUDAGraph, R]:
    """The graph of a call, whose replay does it again; and what it returned, whose memory each replay fills anew."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # before the capture: what is made once, not to be captured
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = call()
    return graph, answer
