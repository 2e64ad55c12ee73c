"""PTX to LLVM's language, statement for statement: `run(thread, context, entry)` follows a thread until it waits.

A thread's registers, 8 bytes each, stand in memory after its SPECIAL numbers. At a barrier `run` returns the number of
the entry to go on by, so that who calls it decides which thread is next; -1 once the thread is done, -2 where it would
do what it must not. A statement that is not known is refused: nothing is passed over.
"""

import re

from ptx_arithmetic import Arithmetic
from ptx_values import SPECIAL, bits, llvm_type

# The words of `context`: addresses, but for the last two.
CONTEXT = ("parameters", "shared", "exchange", "ranges", "fault", "n_ranges", "off")
DONE, FAULT = -1, -2
BLOCK, WARP = 1, 2  # who waits at a point

HEAD = """
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


class Code(Arithmetic):
    """The text of `run`, and at which points threads wait: BLOCK or WARP of each."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.points = []
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

    def statement(self, statement):
        try:
            getattr(self, f"do_{statement.words[0]}", self.operation)(statement.words, *statement.operands)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise NotImplementedError(f"PTX that is not known: {statement.text}") from error

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
