"""PTX to LLVM's language: what computes, a method for each name, the same operations to the last bit."""

import struct

from ptx_values import Values, bits, llvm_type

INTEGER = ("add", "sub", "and", "or", "xor")
FLOAT = {"add.rn": "fadd", "sub.rn": "fsub"}
FLOAT_CALL = {"fma.rn": "fma", "sqrt.rn": "sqrt"}
COMPARED = {"s": "slt sle sgt sge", "u": "ult ule ugt uge", "b": "ult ule ugt uge"}
NEAR = {"f32": 2.0**-22.9, "f64": 2.0**-20}  # the part that `rsqrt.approx` may be off by: the ISA's; kernels/root.py's

WHOLE = {"rmi": "floor", "rpi": "ceil", "rzi": "trunc", "rni": "roundeven"}  # to a whole number


class Arithmetic(Values):
    """Statements that write a register from others."""

    def operation(self, words, d, *operands):
        """What LLVM has too."""
        name, kind = ".".join(words[:-1]), words[-1]
        values = self.values(operands, kind)
        if kind[0] == "f" and name in FLOAT_CALL:
            return self.put(d, kind, self.call(FLOAT_CALL[name], kind, values))
        if kind[0] != "f" and name not in INTEGER:
            raise KeyError(name)
        a, b = values
        return self.put(d, kind, self.new(f"{FLOAT[name] if kind[0] == 'f' else name} {llvm_type(kind)} {a}, {b}"))

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
        self.declared.add("declare i128 @llvm.umin.i128(i128, i128)")
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
