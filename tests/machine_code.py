"""Machine code of kernels for GPUs, as the toolkit's disassembler lists it."""

import re
import subprocess
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import nvidia
from cuda.bindings import nvjitlink

from fastlam.kernels import cuda_launch


def ptx(make, arguments, threads, cc):
    """The kernel as PTX for this architecture: what its machine code is assembled from."""
    code, _ = cuda_launch._code(make, arguments, threads)
    options = [f"-arch=sm_{cc[0]}{cc[1]}", "-lto", "-ptx", "-fma=0"]
    linker = nvjitlink.create(len(options), options)
    try:
        nvjitlink.add_data(linker, nvjitlink.InputType.LTOIR, code, len(code), "kernel")
        nvjitlink.complete(linker)
        text = bytearray(nvjitlink.get_linked_ptx_size(linker))
        nvjitlink.get_linked_ptx(linker, text)
    finally:
        nvjitlink.destroy(linker)
    return text.decode().rstrip("\0")


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
