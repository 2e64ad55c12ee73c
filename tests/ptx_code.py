"""PTX to LLVM's language, statement for statement: `run(thread, context, entry)` follows a thread until it waits.

A thread's registers, 8 bytes each, stand in memory after its SPECIAL numbers. At a barrier `run` returns the number of
the entry to go on by, so that who calls it decides which thread is next; -1 once the thread is done, -2 where it would
do what it must not. A statement that is not known is refused: nothing is passed over.
"""

import re
import struct

SPECIAL = ("%tid.x", "%ctaid.x", "%ctaid.y", "%nctaid.x", "%nctaid.y", "%ntid.x")
# The words of `context`: addresses, but for the last two.
CONTEXT = ("parameters", "shared", "exchange", "ranges", "fault", "n_ranges", "off")
KINDS = {"pred", "f32", "f64", *(f"{sign}{size}" for sign in "bsu" for size in (16, 32, 64))}
WHOLE = {"rmi": "floor", "rpi": "ceil", "rzi": "trunc", "rni": "roundeven"}  # to a whole number
WIDTHS = {"%p": 1, "%rs": 16, "%r": 32, "%f": 32, "%rd": 64, "%fd": 64}  # of registers
DONE, FAULT = -1, -2
BLOCK, WARP = 1, 2  # who waits at a point

INTEGER = ("add", "sub", "and", "or", "xor")
FLOAT = {"add.rn": "fadd", "sub.rn": "fsub"}
FLOAT_CALL = {"fma.rn": "fma", "sqrt.rn": "sqrt"}
COMPARED = {"s": "slt sle sgt sge", "u": "ult ule ugt uge", "b": "ult ule ugt uge"}
NEAR = {"f32": 2.0**-22.9, "f64": 2.0**-20}  # the part that `rsqrt.approx` may be off by: the ISA's; kernels/root.py's

HEAD = """
declare i128 @llvm.umin.i128(i128, i128)

define i1 @within(ptr %context, i64 %address, i64 %size) {
  %ranges.at = getelementptr i64, ptr %context, i64 RANGES
  %ranges = load ptr, ptr %ranges.at
  %count.at = getelementptr i64, ptr %context, i64 N_RANGES
  %count = load i64, ptr %count.at
  %rest = urem i64 %address, %size
  %aligned = icmp eq i64 %rest, 0
  br i1 %aligned, label %next, label %no
next:
  %k = phi i64 [0, %0], [%more, %look]
  %left = icmp ult i64 %k, %count
  br i1 %left, label %look, label %no
look:
  %pair = getelementptr [2 x i64], ptr %ranges, i64 %k
  %begin = load i64, ptr %pair
  %end.at = getelementptr i64, ptr %pair, i64 1
  %end = load i64, ptr %end.at
  %stop = add i64 %address, %size
  %after = icmp uge i64 %address, %begin
  %before = icmp ule i64 %stop, %end
  %inside = and i1 %after, %before
  %more = add i64 %k, 1
  br i1 %inside, label %yes, label %next
yes:
  ret i1 true
no:
  ret i1 false
}
""".replace("N_RANGES", str(CONTEXT.index("n_ranges"))).replace("RANGES", str(CONTEXT.index("ranges")))


def llvm_type(kind):
    """Of a type of PTX: f32 to float, u64 to i64."""
    bits(kind)
    return {"f32": "float", "f64": "double", "pred": "i1"}.get(kind) or f"i{kind[1:]}"


def bits(kind):
    """Of a type: those of 8 are refused, whose loads fill wider registers."""
    if kind not in KINDS:
        raise ValueError(f"a type that is not known: {kind}")
    return 1 if kind == "pred" else int(kind[1:])


class Code:
    """The text of `run`, and at which points threads wait: BLOCK or WARP of each."""

    def __init__(self, kernel):
        self.kernel, self.lines, self.count, self.points, self.open = kernel, [], 0, [], True
        self.declared = set()
        for line, statement in enumerate(kernel.body):
            self.line = line
            if isinstance(statement, str):
                self.label(self.named(statement))
            else:
                self.guarded(statement)
        if self.open:
            self.end(f"ret i32 {DONE}")

    def text(self):
        entries = " ".join(f"i32 {k + 1}, label %entry{k}" for k in range(len(self.points)))
        fields = [
            f"  %{name}.at = getelementptr i64, ptr %context, i64 {k}\n"
            f"  %{name} = load {'i64' if name == 'n_ranges' else 'double' if name == 'off' else 'ptr'}, ptr %{name}.at"
            for k, name in enumerate(CONTEXT)
        ]
        places = [
            f"  %at{number} = getelementptr i64, ptr %thread, i64 {number}"
            for number in range(len(SPECIAL) + len(self.kernel.registers))
        ]
        start = [f"  switch i32 %entry, label %start [{entries}]", "start:"]
        body = "\n".join([*fields, *places, *start, *self.lines])
        declared = "\n".join(sorted(self.declared))
        head = "define i32 @run(ptr noalias %thread, ptr noalias %context, i32 %entry)"
        return f"{HEAD}{declared}\n{head} {{\n{body}\n}}\n"

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

    def guarded(self, statement):
        if not self.open:
            self.label(self.fresh())  # nothing comes here
        if not statement.guard:
            return self.statement(statement)
        condition = self.value(statement.guard.lstrip("!"), "pred")
        then, otherwise = self.fresh(), self.fresh()
        self.branch(condition, *((otherwise, then) if statement.guard[0] == "!" else (then, otherwise)))
        self.label(then)
        self.statement(statement)
        self.label(otherwise)
        return None

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

    # Statements

    def statement(self, statement):
        try:
            self.known_statement(statement)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise NotImplementedError(f"PTX that is not known: {statement.text}") from error

    def known_statement(self, statement):
        words, operands = statement.words, statement.operands
        name, kind = words[0], words[-1]
        method = getattr(self, f"do_{name}", None)
        if method is not None:
            return method(words, *operands)
        operation, d, rest = ".".join(words[:-1]), operands[0], operands[1:]
        t = llvm_type(kind)
        if kind in ("f32", "f64") and operation in FLOAT:
            a, b = self.values(rest, kind)
            return self.put(d, kind, self.new(f"{FLOAT[operation]} {t} {a}, {b}"))
        if kind in ("f32", "f64") and operation in FLOAT_CALL:
            return self.put(d, kind, self.call(FLOAT_CALL[operation], kind, self.values(rest, kind)))
        if kind not in ("f32", "f64") and operation in INTEGER:
            a, b = self.values(rest, kind)
            return self.put(d, kind, self.new(f"{operation} {t} {a}, {b}"))
        raise NotImplementedError(f"PTX that is not known: {statement.text}")

    def call(self, name, kind, arguments):
        t = llvm_type(kind)
        full = f"@llvm.{name}.{kind if kind[0] == 'f' else t}"
        self.declared.add(f"declare {t} {full}({', '.join([t] * len(arguments))})")
        return self.new(f"call {t} {full}({', '.join(f'{t} {a}' for a in arguments)})")

    def do_min(self, words, d, a, b):
        name, kind = words
        values, t = self.values((a, b), kind), llvm_type(kind)
        if kind[0] != "f":
            return self.put(d, kind, self.call(f"{kind[0]}{name}", kind, values))
        chosen = self.call(f"{name}num", kind, values)
        same = self.new(f"fcmp oeq {t} {values[0]}, {values[1]}")  # 0 and -0 are, of which -0 is the smaller
        whole = [self.new(f"bitcast {t} {value} to i{bits(kind)}") for value in values]
        both = self.new(f"{'or' if name == 'min' else 'and'} i{bits(kind)} {whole[0]}, {whole[1]}")
        zero = self.new(f"bitcast i{bits(kind)} {both} to {t}")
        return self.put(d, kind, self.new(f"select i1 {same}, {t} {zero}, {t} {chosen}"))

    do_max = do_min

    def do_neg(self, words, d, a):
        (_, kind), t = words, llvm_type(words[1])
        value = self.value(a, kind)
        self.put(d, kind, self.new(f"fneg {t} {value}" if kind[0] == "f" else f"sub {t} 0, {value}"))

    def do_abs(self, words, d, a):
        (_, kind), t = words, llvm_type(words[1])
        value = self.value(a, kind)
        if kind[0] == "f":
            return self.put(d, kind, self.call("fabs", kind, [value]))
        minus = self.new(f"sub {t} 0, {value}")
        return self.put(d, kind, self.call("smax", kind, [value, minus]))

    def do_not(self, words, d, a):
        self.put(d, words[1], self.new(f"xor {llvm_type(words[1])} {self.value(a, words[1])}, -1"))

    def do_rcp(self, words, d, a):
        _, _, kind = self.known(words, "rn", 3)
        t = llvm_type(kind)
        self.put(d, kind, self.new(f"fdiv {t} 1.0, {self.value(a, kind)}"))

    def known(self, words, second, length):
        if words[1] != second or len(words) != length:
            raise NotImplementedError(f"PTX that is not known: {'.'.join(words)}")
        return words

    def do_div(self, words, d, a, b):
        kind = words[-1]
        operation = {"f": "fdiv", "s": "sdiv", "u": "udiv"}[kind[0]]
        if kind[0] == "f":
            self.known(words, "rn", 3)
        a, b = self.values((a, b), kind)
        self.put(d, kind, self.new(f"{operation} {llvm_type(kind)} {a}, {b}"))

    def do_rem(self, words, d, a, b):
        a, b = self.values((a, b), words[1])
        self.put(d, words[1], self.new(f"{words[1][0]}rem {llvm_type(words[1])} {a}, {b}"))

    def do_mul(self, words, d, a, b):
        _, part, kind = words
        a, b = self.values((a, b), kind)
        if part == "rn":
            return self.put(d, kind, self.new(f"fmul {llvm_type(kind)} {a}, {b}"))
        if part == "lo":
            return self.put(d, kind, self.new(f"mul {llvm_type(kind)} {a}, {b}"))
        n = bits(kind)
        wide = self.new(f"mul i{2 * n} {self.widened(a, kind, 2 * n)}, {self.widened(b, kind, 2 * n)}")
        if part == "wide":
            return self.put(d, f"b{2 * n}", wide)
        self.known(words, "hi", 3)
        return self.put(d, kind, self.new(f"trunc i{2 * n} {self.new(f'lshr i{2 * n} {wide}, {n}')} to i{n}"))

    def widened(self, value, kind, n):
        extend = "sext" if kind[0] == "s" else "zext"
        return self.new(f"{extend} {llvm_type(kind)} {value} to i{n}")

    def do_mad(self, words, d, a, b, c):
        _, _, kind = self.known(words, "lo", 3)
        t = llvm_type(kind)
        a, b, c = self.values((a, b, c), kind)
        self.put(d, kind, self.new(f"add {t} {self.new(f'mul {t} {a}, {b}')}, {c}"))

    def do_shl(self, words, d, a, count):
        """By the width of the type and more, nothing is left, or the sign alone."""
        kind, n = words[1], bits(words[1])
        value, count = self.value(a, kind), self.value(count, "u32")
        wide = self.new(f"{'sext' if kind[0] == 's' else 'zext'} i{n} {value} to i128")
        count = self.new(f"call i128 @llvm.umin.i128(i128 {self.new(f'zext i32 {count} to i128')}, i128 {n})")
        operation = "shl" if words[0] == "shl" else "ashr" if kind[0] == "s" else "lshr"
        self.put(d, kind, self.new(f"trunc i128 {self.new(f'{operation} i128 {wide}, {count}')} to i{n}"))

    do_shr = do_shl

    def do_bfi(self, words, d, a, b, start, length):
        kind, n = words[1], bits(words[1])
        mask = (2 ** int(length) - 1) << int(start)
        shifted = self.new(f"shl i{n} {self.value(a, kind)}, {int(start)}")
        inserted = self.new(f"and i{n} {shifted}, {mask}")
        kept = self.new(f"and i{n} {self.value(b, kind)}, {2**n - 1 - mask}")
        self.put(d, kind, self.new(f"or i{n} {inserted}, {kept}"))

    def do_setp(self, words, d, a, b):
        _, test, kind = words
        a, b = self.values((a, b), kind)
        if kind[0] == "f":
            if test in ("num", "nan"):
                test = {"num": "ord", "nan": "uno"}[test]
            elif test[:2] in ("eq", "ne", "lt", "le", "gt", "ge"):
                test = f"u{test[:2]}" if test.endswith("u") else f"o{test}"
            else:
                raise ValueError(f"a comparison that is not known: {test}")
            return self.put(d, "pred", self.new(f"fcmp {test} {llvm_type(kind)} {a}, {b}"))
        signs = dict(zip(("lt", "le", "gt", "ge"), COMPARED[kind[0]].split(), strict=True))
        return self.put(d, "pred", self.new(f"icmp {signs.get(test, test)} {llvm_type(kind)} {a}, {b}"))

    def do_selp(self, words, d, a, b, p):
        kind, t = words[1], llvm_type(words[1])
        a, b = self.values((a, b), kind)
        self.put(d, kind, self.new(f"select i1 {self.value(p, 'pred')}, {t} {a}, {t} {b}"))

    def do_mov(self, words, d, a):
        kind = words[1]
        if d.startswith("{"):
            parts = self.parts(d)
            n = bits(kind) // len(parts)
            value = self.value(a, f"b{bits(kind)}")
            for k, part in enumerate(parts):
                shifted = self.new(f"lshr i{bits(kind)} {value}, {k * n}")
                self.put(part, f"b{n}", self.new(f"trunc i{bits(kind)} {shifted} to i{n}"))
        elif a.startswith("{"):
            parts, total = self.parts(a), "0"
            n = bits(kind) // len(parts)
            for k, part in enumerate(parts):
                wide = self.new(f"zext i{n} {self.value(part, f'b{n}')} to i{bits(kind)}")
                total = self.new(f"or i{bits(kind)} {total}, {self.new(f'shl i{bits(kind)} {wide}, {k * n}')}")
            self.put(d, f"b{bits(kind)}", total)
        else:
            self.put(d, kind, self.value(a, kind))

    def do_cvta(self, words, d, a):
        self.put(d, words[-1], self.value(a, words[-1]))

    def do_cvt(self, words, d, a):
        *modes, to, source = words[1:]
        value, t, s = self.value(a, source), llvm_type(to), llvm_type(source)
        both = to[0] + source[0]
        if len(modes) == 1 and modes[0] in WHOLE and source[0] == "f":
            value = self.call(WHOLE[modes[0]], source, [value])
            if to == source:
                return self.put(d, to, value)
            if to[0] == "f":
                raise ValueError("a change of type too")
            name = f"@llvm.fpto{'s' if to[0] == 's' else 'u'}i.sat.{t}.{source}"  # as on a card: NaN to 0, ends kept
            self.declared.add(f"declare {t} {name}({s})")
            return self.put(d, to, self.new(f"call {t} {name}({s} {value})"))
        if both == "ff" and modes == (["rn"] if to == "f32" else []):
            operation = "fptrunc" if to == "f32" else "fpext"
        elif both in ("fs", "fu") and modes == ["rn"]:
            operation = "sitofp" if source[0] == "s" else "uitofp"
        elif both[0] in "sub" and both[1] in "sub" and not modes:
            wider = bits(to) - bits(source)
            if wider == 0:
                return self.put(d, to, value)
            operation = "trunc" if wider < 0 else "sext" if source[0] == "s" else "zext"
        else:
            raise NotImplementedError(f"PTX that is not known: {'.'.join(words)}")
        return self.put(d, to, self.new(f"{operation} {s} {value} to {t}"))

    def do_rsqrt(self, words, d, a):
        """Off by a share of what it may be off by; of a float64 only the upper halves are read and written.

        Numbers that `ftz` would flush are left as they are.
        """
        kind = words[-1]
        if words[1:-1] != ("approx", "ftz"):
            raise NotImplementedError(f"PTX that is not known: {'.'.join(words)}")
        value = self.value(a, kind)
        wide = self.new(f"fpext float {value} to double") if kind == "f32" else self.upper(value)
        right = self.new(f"fdiv double 1.0, {self.call('sqrt', 'f64', [wide])}")
        part = struct.unpack("<Q", struct.pack("<d", NEAR[kind]))[0]
        factor = self.new(f"fadd double 1.0, {self.new(f'fmul double %off, 0x{part:016X}')}")
        near = self.new(f"fmul double {right}, {factor}")
        self.put(d, kind, self.new(f"fptrunc double {near} to float") if kind == "f32" else self.upper(near))

    def upper(self, value):
        whole = self.new(f"bitcast double {value} to i64")
        return self.new(f"bitcast i64 {self.new(f'and i64 {whole}, -4294967296')} to double")

    # Memory

    def do_ld(self, words, d, address):
        _, space, *vector, kind = words
        if space == "param":
            place = self.new(f"getelementptr i64, ptr %parameters, i64 {int(address.strip('[]').rpartition('_')[2])}")
            return self.put(d, kind, self.new(f"load {llvm_type(kind)}, ptr {place}"))
        targets = self.parts(d) if vector else [d]
        place = self.memory(space, address, kind, len(targets))
        for k, target in enumerate(targets):
            at = self.new(f"getelementptr {llvm_type(kind)}, ptr {place}, i64 {k}")
            self.put(target, kind, self.new(f"load {llvm_type(kind)}, ptr {at}"))
        return None

    def do_st(self, words, address, a):
        _, space, *vector, kind = words
        sources = self.parts(a) if vector else [a]
        place = self.memory(space, address, kind, len(sources))
        for k, value in enumerate(self.values(sources, kind)):
            at = self.new(f"getelementptr {llvm_type(kind)}, ptr {place}, i64 {k}")
            self.emit(f"store {llvm_type(kind)} {value}, ptr {at}")

    def memory(self, space, address, kind, count):
        """Where it is, once it is seen to be there, and aligned."""
        base, offset = re.fullmatch(r"\[([^+]+)(?:\+(-?\d+))?\]", address).groups()
        known = base in self.kernel.shared or base.startswith("%")
        if space not in ("shared", "global") or not known:
            raise NotImplementedError(f"PTX that is not known: memory {space} {address}")
        wide = "b64" if not base.startswith("%r") or base.startswith("%rd") else "b32"
        start = self.value(base, wide)
        start = self.new(f"zext i32 {start} to i64") if wide == "b32" else start
        if space == "shared":
            start = self.new(f"add i64 {self.new('ptrtoint ptr %shared to i64')}, {start}")
        start = self.new(f"add i64 {start}, {offset or 0}")
        size = bits(kind) // 8 * count
        self.demand(self.new(f"call i1 @within(ptr %context, i64 {start}, i64 {size})"))
        return self.new(f"inttoptr i64 {start} to ptr")

    def demand(self, condition):
        """A fault of this statement, unless the condition holds."""
        fine, otherwise = self.fresh(), self.fresh()
        self.branch(condition, fine, otherwise)
        self.label(otherwise)
        self.emit(f"store i64 {self.line}, ptr %fault")
        self.end(f"ret i32 {FAULT}")
        self.label(fine)

    # Who goes on where

    def do_bra(self, words, label):
        self.end(f"br label %{self.named(label)}")

    def do_ret(self, words):
        self.end(f"ret i32 {DONE}")

    def wait(self, who):
        self.points.append(who)
        self.end(f"ret i32 {len(self.points)}")
        self.label(f"entry{len(self.points) - 1}")

    def do_bar(self, words, barrier):
        if words[1:] == ("sync",) and barrier == "0":
            return self.wait(BLOCK)
        if words[1:] == ("warp", "sync") and int(barrier, 0) % 2**32 == 2**32 - 1:
            return self.wait(WARP)
        raise NotImplementedError(f"PTX that is not known: {'.'.join(words)} {barrier}")

    def do_shfl(self, words, d, a, down, clamp, mask):
        """The value of the thread `down` further on in the warp, its own where there is none."""
        if words != ("shfl", "sync", "down", "b32"):
            raise NotImplementedError(f"PTX that is not known: {'.'.join(words)}")
        within = self.new(f"icmp eq i32 {self.value(clamp, 'b32')}, 31")
        everyone = self.new(f"icmp eq i32 {self.value(mask, 'b32')}, -1")
        near = self.new(f"icmp ult i32 {self.value(down, 'b32')}, 32")
        self.demand(self.new(f"and i1 {near}, {self.new(f'and i1 {within}, {everyone}')}"))
        thread = self.value("%tid.x", "b64")
        own = self.new(f"getelementptr i64, ptr %exchange, i64 {thread}")
        self.emit(f"store i32 {self.value(a, 'b32')}, ptr {own}")
        self.wait(WARP)
        thread, by = self.value("%tid.x", "b64"), self.value(down, "b32")
        further = self.new(f"add i64 {thread}, {self.new(f'zext i32 {by} to i64')}")
        same = self.new(f"icmp eq i64 {self.new(f'lshr i64 {further}, 5')}, {self.new(f'lshr i64 {thread}, 5')}")
        source = self.new(f"select i1 {same}, i64 {further}, i64 {thread}")
        at = self.new(f"getelementptr i64, ptr %exchange, i64 {source}")
        value, *flag = d.split("|")
        self.put(value, "b32", self.new(f"load i32, ptr {at}"))
        for p in flag:
            self.put(p, "pred", same)
        self.wait(WARP)
