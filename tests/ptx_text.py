"""PTX as NVIDIA's compiler writes it, read into statements: https://docs.nvidia.com/cuda/parallel-thread-execution."""

import re
from typing import NamedTuple


class Statement(NamedTuple):
    """An instruction: `@!%p1 ld.global.f32 %f1, [%rd1+8]` has the guard `!%p1`, three words and two operands."""

    guard: str
    words: tuple[str, ...]
    operands: tuple[str, ...]
    text: str


class Kernel(NamedTuple):
    """What an entry is made of; a string in the body is a label."""

    parameters: tuple[str, ...]  # types
    shared: dict[str, tuple[int, int]]  # where an array starts, its bytes
    registers: dict[str, int]  # a number for each
    body: list[Statement | str]


def read(text):
    """The only kernel of a text."""
    text = re.sub(r"//.*", "", text)
    head, body = text[text.index(".entry") :].split("{", 1)
    registers = {}
    return Kernel(
        tuple(re.findall(r"\.param \.(\w+)", head)),
        _shared(text),
        registers,
        list(_statements(body.rpartition("}")[0], registers)),
    )


def _shared(text):
    arrays, end = {}, 0
    for align, name, size in re.findall(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\]", text):
        start = -(-end // int(align)) * int(align)
        arrays[name], end = (start, int(size)), start + int(size)
    return arrays


def _statements(body, registers):
    """Each gets its registers numbered; names of a scope in braces are its own."""
    scope, scopes = {}, 0
    for part in re.split(r";|(?<=:)\s", body):
        text = part.strip()
        while text[:1] in ("{", "}"):  # of a scope: those of vectors stand among operands
            scope, scopes, text = {}, scopes + 1, text[1:].strip()
        if text.startswith(".reg"):
            names = re.fullmatch(r"\.reg\s+\.\w+\s+(.*)", text, re.S)[1]
            if "<" not in names:
                scope = scope | {name: f"%{name.strip('%')}.{scopes}" for name in re.split(r",\s*", names)}
        elif text.endswith(":"):
            yield text[:-1]
        elif text and not text.startswith("."):
            for name, own in scope.items():
                text = re.sub(rf"(?<![\w.%$]){name}\b(?!\.)", own, text)
            for name in re.findall(r"%[a-z]+\d+\b|%\w+\.\d+", text):
                registers.setdefault(name, len(registers))
            yield _statement(text)


def _statement(text):
    guard, operation, operands = re.fullmatch(r"(?:@(!?%\w+)\s+)?([\w.:]+)\s*(.*)", text, re.S).groups()
    return Statement(guard or "", tuple(operation.split(".")), tuple(_split(operands)), " ".join(text.split()))


def _split(operands):
    """At commas outside of braces."""
    return [operand.strip() for operand in re.split(r",(?![^{]*\})", operands) if operand.strip()]
