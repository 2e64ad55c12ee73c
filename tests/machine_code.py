"""Machine code of kernels for GPUs, as the toolkit's disassembler lists it."""

import re
import subprocess
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import nvidia

DISASSEMBLER = next(Path(folder) / "cu13/bin/nvdisasm" for folder in nvidia.__path__)
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][A-Z0-9_.]+)(.*)")


@cache
def instructions(code):
    """The machine code as a list of (operation, operands), and where each label stands."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        text = subprocess.run([DISASSEMBLER, "-c", file.name], capture_output=True, text=True, check=True).stdout
    listing, labels = [], {}
    for line in text.splitlines():
        if line.strip().startswith(".L_") and line.strip().endswith(":"):
            labels[line.strip()[:-1]] = len(listing)
        elif found := INSTRUCTION.search(line):
            listing.append((found[1], found[2]))
    return listing, labels


def loops(code):
    """The instructions of each loop: what stands between a branch back and where it goes."""
    listing, labels = instructions(code)
    found = []
    for end, (operation, operands) in enumerate(listing):
        label = re.search(r"`\((\.L_\w+)\)", operands)
        if operation == "BRA" and label and labels[label[1]] < end:
            found.append([name for name, _ in listing[labels[label[1]] : end + 1]])
    return found


def counted(code):
    """How often each operation occurs, by its first word: FFMA, not FFMA.FTZ."""
    return Counter(operation.split(".")[0] for operation, _ in instructions(code)[0])
