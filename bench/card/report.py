"""What `make gpu` found, as JSON and as Markdown: bench/results/<card>.json and .md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench.card import pieces, rows, targets, whole
from bench.table import table, tables

KNOWN = ("torch's CUDA", "CUDA driver", "python", "numpy", "numba", "numba-cuda", "llvmlite", "torch", "triton", "cupy")
KNOWN_TOO = ("cuda-core", "cuda-bindings", "nvvm", "nvJitLink")
PROFILE = ("kernel", "launches", "time", "G normals/s", "GB/s", "of Philox", "of copying", "launch", "registers",
           "shared", "spills", "warps")  # fmt: skip


def slug(card: str) -> str:
    """A card's name as a file's.

    >>> slug("NVIDIA H100 80GB HBM3")
    'nvidia-h100-80gb-hbm3'
    """
    return re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-") or "unknown-card"


def published(facts: list[list[str]]) -> list[list[str]]:
    """Facts without what is nobody's business elsewhere: where libraries are, which kernel the machine runs.

    >>> published([["nvvm", "/opt/cuda/libnvvm.so"], ["python", "3.12.3 (CPython) on Linux-6.1"]])
    [['nvvm', 'found'], ['python', '3.12.3 (CPython)']]
    """
    return [[name, "found" if value.startswith("/") else value.partition(" on Linux")[0]] for name, value in facts]


def write(document: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write both files; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    name = slug(document["card"])
    texts = {f"{name}.json": json.dumps(document, indent=1), f"{name}.md": markdown(document)}
    for file, text in texts.items():
        whole.write(folder / file, text + "\n")
    return folder / f"{name}.json", folder / f"{name}.md"


def markdown(document: dict[str, Any]) -> str:
    """The document for readers."""
    parts = [
        f"# {document['card']}, {document['datetime'][:10]}",
        _versions(document),
        _paragraph("Clocks as they were found", [document["clocks"]]),
        _paragraph("Missing", [pieces.line(pieces.Missing(**piece)) for piece in document["missing"]]),
        "\n".join(stage_line(stage) for stage in document["stages"]),
        _paragraph("Faults", document["faults"]),
    ]
    if document["benchmarks"]:
        asked = [targets.cells(target, document["benchmarks"]) for target in targets.TARGETS]
        parts += ["## Speed that is asked for", "\n".join(table(targets.COLUMNS, asked)), "Stated for one H200."]
        timed = [record for record in document["benchmarks"] if record["state"] == "timed"]
        parts += ["## Benchmarks", tables({"benchmarks": timed}).strip()]
        left = [rows.line(record) for record in document["benchmarks"] if record["state"] != "timed"]
        parts.append(_paragraph("Not timed", left))
    if document["profile"]:
        parts += ["## Profile", profile(document["profile"])]
    return "\n\n".join(filter(None, parts))


def profile(document: dict[str, Any]) -> str:
    """Tables of `bench.profile_gpu`, one for each public call."""
    limits = ", ".join(f"{name} {rate:,.4g} G/s" for name, rate in document["limits"].items())
    parts = [f"Limits: {limits}."] if limits else []
    for call in document["calls"]:
        lines = table(PROFILE, [[kernel[column] for column in PROFILE] for kernel in call["kernels"]])
        parts += [f"### {call['name']}\n\n{call['about']}", "\n".join(lines)]
    return "\n\n".join(parts)


def stage_line(stage: dict[str, Any]) -> str:
    """A stage in one line."""
    return f"* {stage['name']}: {stage['seconds']:.0f} s of {stage['limit']:.0f} s: {stage['said']}"


def _versions(document: dict[str, Any]) -> str:
    facts = dict(document["facts"])
    known = [f"{name} {facts[name]}" for name in (*KNOWN, *KNOWN_TOO) if name in facts]
    return "; ".join(known)


def _paragraph(title: str, lines: list[str]) -> str:
    return "\n".join([f"{title}:", "", *(f"* {line}" for line in lines)]) if lines else ""
