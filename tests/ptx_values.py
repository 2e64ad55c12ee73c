"""PTX to LLVM's language: its types, the text as it grows block by block, and a thread's registers as values of it."""

import re
import struct

SPECIAL = ("%tid.x", "%ctaid.x", "%ctaid.y", "%nctaid.x", "%nctaid.y", "%ntid.x")
KINDS = {"pred", "f32", "f64", *(f"{sign}{size}" for sign in "bsu" for size in (16, 32, 64))}
WIDTHS = {"%p": 1, "%rs": 16, "%r": 32, "%f": 32, "%rd": 64, "%fd": 64}  # of registers


def llvm_type(kind):
    """Of a type of PTX: f32 to float, u64 to i64."""
    bits(kind)
    return {"f32": "float", "f64": "double", "pred": "i1"}.get(kind) or f"i{kind[1:]}"


def bits(kind):
    """Of a type: those of 8 are refused, whose loads fill wider registers."""
    if kind not in KINDS:
        raise ValueError(f"a type that is not known: {kind}")
    return 1 if kind == "pred" else int(kind[1:])


class Values:
    """Lines of LLVM's language, and how operands of PTX stand in them."""

    def __init__(self, kernel):
        self.kernel, self.lines, self.count, self.open = kernel, [], 0, True
        self.declared = set()

    # Blocks

    def emit(self, line):
        self.lines.append(f"  {line}")

    def new(self, value):
        self.count += 1
        self.emit(f"%v{self.count} = {value}")
        return f"%v{self.count}"

    def label(self, name):
        if self.open:
            self.emit(f"br label %{name}")
        self.lines.append(f"{name}:")
        self.open = True

    def fresh(self):
        self.count += 1
        return f"block{self.count}"

    def end(self, line):
        self.emit(line)
        self.open = False

    def named(self, label):
        return "label." + label.strip("$")

    def branch(self, condition, then, otherwise):
        self.end(f"br i1 {condition}, label %{then}, label %{otherwise}")

    # Operands

    def place(self, name):
        if name in SPECIAL:
            return f"%at{SPECIAL.index(name)}"
        if name not in self.kernel.registers:
            raise NotImplementedError(f"PTX that is not known: the register {name}")
        return f"%at{len(SPECIAL) + self.kernel.registers[name]}"

    def value(self, operand, kind):
        """An operand as a value of a type of PTX: of a register so many of its low bits."""
        if operand.startswith("%"):
            return self.new(f"load {llvm_type(kind)}, ptr {self.place(operand)}")
        if found := re.fullmatch(r"0[fd]([0-9A-Fa-f]{8,16})", operand):
            number = int(found[1], 16)
            value = struct.unpack("<f", struct.pack("<I", number))[0] if kind == "f32" else number
            return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0] if kind == 'f32' else number:016X}"
        if operand in self.kernel.shared:
            return str(self.kernel.shared[operand][0])
        number = int(operand.rstrip("U"), 0) % 2 ** bits(kind)
        return str(number)

    def put(self, operand, kind, value):
        """Write a register of just this width."""
        if operand != "_":
            named = re.fullmatch(r"(%[a-z]+)\d+", operand)  # those of a scope have names of any kind
            if named and WIDTHS[named[1]] != bits(kind):
                raise ValueError(f"{operand} is not as wide as {kind}")
            self.emit(f"store {llvm_type(kind)} {value}, ptr {self.place(operand)}")

    def values(self, operands, kind):
        return [self.value(operand, kind) for operand in operands]

    def parts(self, operand):
        return [part.strip() for part in operand.strip("{}").split(",")]

    def call(self, name, kind, arguments):
        t = llvm_type(kind)
        full = f"@llvm.{name}.{kind if kind[0] == 'f' else t}"
        self.declared.add(f"declare {t} {full}({', '.join([t] * len(arguments))})")
        return self.new(f"call {t} {full}({', '.join(f'{t} {a}' for a in arguments)})")
