"""From the loop IR to the text of an LLVM module, in one walk.

Variables become SSA values at once: what a loop's body assigns and had a value before is a phi at its head, and what a
condition's body assigns is one behind it. Nothing is kept on the stack. An instruction without effects is written once,
outside of the loops that it does not depend on, and short loops turn by turn: LLVM would find that by itself, in twice
the time. Elementary functions are those of `fastpoly_kernels.formulas`, each written once for each kind of operand and
inlined by LLVM.

Every operation on floats may be contracted: a product and a sum become one instruction with one rounding less. Nothing
else is allowed; sums are reordered by the program itself, and NaN means what it says.
"""

from __future__ import annotations

import re

from fastpoly_kernels import processor
from fastpoly_kernels.functions import FUNCTIONS, is_called

from .instructions import COMPARISONS, INSTRUCTIONS
from .ir import (
    BOOL,
    INDEX,
    Assign,
    Break,
    Const,
    Do,
    Expr,
    If,
    Kernel,
    Kind,
    Load,
    Loop,
    Op,
    Statement,
    Store,
    Var,
    assigned,
    inside,
    turns,
)
from .llvm_pieces import BITS, ELEMENT, MEET, formula_text, multiples, named, number

VALUE = re.compile(r"%v\d+")
"""What an instruction gives."""

WRITTEN_OUT = 320
"""Instructions of a loop within a step up to which its turns are written one after the other: the step then waits for
no jump, and what is read from memory may stay in registers."""

MOST_HOISTED = 1000
"""Instructions that are taken out of loops: what they give must be kept, and LLVM takes long to find where."""

MOST_TURNS = 16
"""And so many turns."""

REDUCED = {"total": "add", "product": "mul", "largest": "maximum", "smallest": "minimum"}


def to_llvm(kernel: Kernel, symbol: str) -> str:
    """A module that defines `symbol`: i64 of the addresses of the kernel's buffers and of its numbers."""
    return Text(kernel, symbol).whole()


class Text:
    """The text of such a module.

    Attributes:
        own: the kernel itself, without the elementary functions that it calls, which take time to write.
    """

    def __init__(self, kernel: Kernel, symbol: str) -> None:
        printer = _Printer(kernel)
        function = printer.function(symbol)
        self._formulas, self._once = printer.formulas, printer.once
        self.own = "\n".join([function, *printer.once.values()]) + "\n"

    def whole(self) -> str:
        """All of it."""
        text, stated = [self.own], set(self._once)
        for of in self._formulas:
            written, once = formula_text(*of)
            new = {name: line for line in once if (name := named(line)) not in stated}
            text += [written, *new.values()]
            stated |= new.keys()
        return "\n".join(text) + "\n"


class _Printer:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.element, self.bits = ELEMENT[kernel.dtype], BITS[kernel.dtype]
        self.lines: list[str] = []
        self.count = 0
        self.block = "entry"
        self.values: dict[Var, str] = {}
        self.exits: list[tuple[str, list[tuple[str, dict[Var, str]]]]] = []
        self.known: list[dict[str, str]] = [{}]  # by the loops that they are in, what instructions give
        self.level_of: dict[str, int] = {}
        self.before: list[list[str]] = []  # for each loop that is being written: what stands before it
        self.conditions = 0  # that the statement at hand is in
        self.hoisted = 0
        self.once: dict[str, str] = {}
        self.formulas: dict[tuple[str, str, int], None] = {}

    # -- the function

    def function(self, symbol: str) -> str:
        """The function, and what is in the module for it."""
        kernel = self.kernel
        noalias = {"carry", "data", "scratch", "out"}
        arguments = [
            f"i64 %{name}" if name in kernel.numbers else f"ptr {'noalias ' if name in noalias else ''}%{name}"
            for name in kernel.arguments
        ]
        self.values = {var: f"%{name}" for name, var in kernel.numbers.items()}
        self.statements(kernel.body)
        assert kernel.result is not None, "a GPU's kernel"
        result = self.value(kernel.result)
        head = f"define i64 @{symbol}({', '.join(arguments)}) nounwind {{"
        text = [f'target triple = "{processor.triple()}"', head, "entry:", *self.lines, f"  ret i64 {result}", "}"]
        if any(isinstance(s, Do) and s.name == "meet" for s in inside(kernel.body)):
            text.append(MEET)
        return "\n".join(text)

    # -- lines

    def new(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def emit(self, text: str) -> str:
        """An instruction without effects: once, and outside of the loops that it does not depend on.

        So may a load from `data` be, which nobody stores to: it must be possible even if the loop has no turn.
        """
        for known in self.known:
            if text in known:
                return known[text]
        level = len(self.before)
        if level and not self.conditions and self.hoisted < MOST_HOISTED:
            level = min(level, max([self.level_of.get(name, 0) for name in VALUE.findall(text)], default=0))
        name = self.known[level][text] = self.new()
        self.level_of[name] = level
        if level == len(self.before):
            self.lines.append(f"  {name} = {text}")
        else:
            self.before[level].append(f"  {name} = {text}")
            self.hoisted += 1
        return name

    def emit_here(self, text: str) -> str:
        """An instruction that is executed where it stands, each time."""
        name = self.new()
        self.level_of[name] = len(self.before)
        self.lines.append(f"  {name} = {text}")
        return name

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def begin(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    def declare(self, line: str) -> None:
        """A declaration, once."""
        self.once.setdefault(named(line), line)

    def type(self, kind: Kind) -> str:
        one = {"float": self.element, "index": "i64", "bool": "i1"}[kind.base]
        return f"<{kind.lanes} x {one}>" if kind.lanes else one

    def suffix(self, kind: Kind) -> str:
        return f"v{kind.lanes}f{self.bits}" if kind.lanes else f"f{self.bits}"

    # -- statements

    def statements(self, body: list[Statement]) -> None:
        for statement in body:
            match statement:
                case Assign(var=var, value=value):
                    self.values[var] = self.value(value)
                case Store(buffer=buffer, index=index, value=value):
                    text = self.value(value)
                    address = self.address(buffer, index)
                    self.line(f"store {self.type(value.kind)} {text}, ptr {address}, align {self.bits // 8}")
                case Loop():
                    self.loop(statement)
                case If(test=test, body=inner):
                    self.condition(test, inner)
                case Break():
                    label, arrivals = self.exits[-1]
                    arrivals.append((self.block, dict(self.values)))
                    self.line(f"br label %{label}")
                    self.block = ""  # nothing comes here
                    return
                case Do(name="aligned_stack"):
                    self.aligned_stack()
                case Do(name="meet", buffer=counter, args=(count,)):
                    self.line(f"call void @meet(ptr %{counter}, i64 {self.value(count)})")

    def loop(self, loop: Loop) -> None:
        values = turns(loop) or ()
        is_one = len(values) == 1 and not any(isinstance(statement, Break) for statement in inside(loop.body))
        if is_one or (len(self.before) == 1 and self.is_written_out(loop, len(values))):
            for turn in values:
                self.values[loop.axis] = str(turn)
                self.statements(loop.body)
            return
        self.count += 1
        head, body, out = (f"{name}{self.count}" for name in ("head", "body", "out"))
        first, end = self.value(loop.first), self.value(loop.end)
        before, block = dict(self.values), self.block
        carried = [var for var in assigned(loop.body) if var in before]
        outer, self.lines = self.lines, []
        self.before.append(outer)
        self.known.append({})
        self.begin(head)
        axis = self.new()
        start = len(self.lines)
        phis = {var: self.new() for var in carried}
        self.level_of.update(dict.fromkeys((axis, *phis.values()), len(self.before)))
        self.lines += [""] * (len(carried) + 1)
        self.values = {**before, **phis}
        at_head = dict(self.values)
        more = self.emit(f"icmp {'slt' if loop.step > 0 else 'sgt'} i64 {axis}, {end}")
        self.line(f"br i1 {more}, label %{body}, label %{out}")
        arrivals = [(head, at_head)]
        self.exits.append((out, arrivals))
        self.begin(body)
        self.values = {**at_head, loop.axis: axis}
        self.statements(loop.body)
        after = self.emit(f"add nsw i64 {axis}, {loop.step}")
        self.line(f"br label %{head}")
        self.lines[start] = f"  {axis} = phi i64 [ {first}, %{block} ], [ {after}, %{self.block} ]"
        for at, var in enumerate(carried, start + 1):
            incoming = f"[ {before[var]}, %{block} ], [ {self.values[var]}, %{self.block} ]"
            self.lines[at] = f"  {phis[var]} = phi {self.type(var.kind)} {incoming}"
        self.exits.pop()
        self.before.pop()
        self.known.pop()
        self.level_of.update(dict.fromkeys(phis.values(), len(self.before)))  # what they end with is known behind it
        self.lines = [*outer, f"  br label %{head}", *self.lines]
        self.begin(out)
        self.join(arrivals, carried, before)

    def is_written_out(self, loop: Loop, count: int) -> bool:
        """Is so little to do in its turns, if they are known, that they are written one after the other?"""
        if not 1 < count <= MOST_TURNS:
            return False
        values = [s.value for s in loop.body if isinstance(s, Assign | Store)]
        return len(values) == len(loop.body) and count * sum(map(self.instructions, values)) <= WRITTEN_OUT

    def instructions(self, value: Expr) -> int:
        """About how many a value takes, a call counted as five."""
        if isinstance(value, Const | Var):
            return 0
        registers = -(-value.kind.lanes * self.bits // processor.register_bits()) or 1
        if isinstance(value, Load):
            return registers
        return (5 if is_called(value.name) else 1) * registers + sum(map(self.instructions, value.args))

    def condition(self, test: Expr, body: list[Statement]) -> None:
        self.count += 1
        then, out = f"then{self.count}", f"past{self.count}"
        before = dict(self.values)
        truth = self.value(test)
        self.line(f"br i1 {truth}, label %{then}, label %{out}")
        arrivals = [(self.block, before)]
        self.begin(then)
        known, self.known = self.known, [*self.known[:-1], dict(self.known[-1])]
        self.conditions += 1
        self.statements(body)
        self.conditions -= 1
        self.known = known
        if self.block:
            self.line(f"br label %{out}")
            arrivals.append((self.block, self.values))
        self.begin(out)
        self.join(arrivals, [var for var in assigned(body) if var in before], before)

    def join(self, arrivals: list[tuple[str, dict[Var, str]]], changed: list[Var], before: dict[Var, str]) -> None:
        """Where several blocks meet: what they bring different values of is a phi."""
        self.values = dict(before)
        for var in changed:
            brought = [(values[var], block) for block, values in arrivals]
            if len({value for value, _ in brought}) == 1:
                self.values[var] = brought[0][0]
                continue
            incoming = ", ".join(f"[ {value}, %{block} ]" for value, block in brought)
            self.values[var] = self.emit_here(f"phi {self.type(var.kind)} {incoming}")

    def aligned_stack(self) -> None:
        """LLVM aligns the stack to registers only for what it knows beforehand: an empty variable, asked for."""
        variable = self.emit_here(f"alloca i8, align {processor.register_bits() // 8}")
        self.line(f'call void asm sideeffect "", "r"(ptr {variable})')

    # -- expressions

    def value(self, expr: Expr) -> str:
        match expr:
            case Const():
                return self.constant(expr)
            case Var():
                return self.values[expr]
            case Load(buffer=buffer, index=index, kind=kind):
                if index.kind.lanes:
                    text = self.gathered(expr)
                else:
                    text = f"load {self.type(kind)}, ptr {self.address(buffer, index)}, align {self.bits // 8}"
                return self.emit(text) if buffer == "data" else self.emit_here(text)  # others may be stored to
            case Op(name=name) if is_called(name):
                return self.formula(expr)
            case Op(name=name):
                special = getattr(self, f"do_{name}", None)
                return str(special(expr)) if special else self.plain(expr)

    def constant(self, const: Const) -> str:
        if const.kind == BOOL:
            return "true" if const.value else "false"
        if const.kind == INDEX:
            return str(const.value)
        return number(float(const.value), self.kernel.dtype)

    def gathered(self, load: Load) -> str:
        """The call that reads the elements at each lane's own place."""
        kind, lanes = self.type(load.kind), load.kind.lanes
        function, truths = f"@llvm.masked.gather.{self.suffix(load.kind)}.v{lanes}p0", f"<{lanes} x i1>"
        self.declare(f"declare {kind} {function}(<{lanes} x ptr>, i32 immarg, {truths}, {kind})")
        where = self.address(load.buffer, load.index)
        given = f"<{lanes} x ptr> {where}, i32 {self.bits // 8}, {truths} splat (i1 true), {kind} poison"
        return f"call {kind} {function}({given})"

    def address(self, buffer: str, index: Expr) -> str:
        place = f"{self.type(index.kind)} {self.value(index)}"
        return self.emit(f"getelementptr inbounds {self.element}, ptr %{buffer}, {place}")

    def widened(self, expr: Expr, lanes: int) -> str:
        """Its value in every lane, if it is one and they are several."""
        if not lanes or expr.kind.lanes:
            return self.value(expr)
        if isinstance(expr, Const):
            return f"splat ({self.type(expr.kind)} {self.constant(expr)})"
        return self.splat(self.value(expr), expr.kind, lanes)

    def splat(self, value: str, kind: Kind, lanes: int) -> str:
        wide = self.type(kind.of(lanes))
        one = self.emit(f"insertelement {wide} poison, {self.type(kind)} {value}, i64 0")
        return self.emit(f"shufflevector {wide} {one}, {wide} poison, <{lanes} x i32> zeroinitializer")

    def plain(self, op: Op) -> str:
        lanes = max(arg.kind.lanes for arg in op.args)
        values = [self.widened(arg, lanes) for arg in op.args]
        kind = op.args[0].kind.of(lanes)
        if kind == INDEX and op.name not in COMPARISONS and all(value.lstrip("-").isdigit() for value in values):
            return str(INSTRUCTIONS[op.name].known(*map(int, values)))
        return self.combined(op.name, kind, values)

    def combined(self, name: str, kind: Kind, values: list[str]) -> str:
        """An instruction of operands of that kind."""
        if name in FUNCTIONS:
            return self.call(FUNCTIONS[name].llvm, self.type(kind), self.suffix(kind), values)
        instruction = INSTRUCTIONS[name]
        how = instruction.floats if kind.base == "float" else instruction.others
        return self.emit(f"{how} {self.type(kind)} {', '.join(values)}")

    def call(self, name: str, kind: str, suffix: str, values: list[str]) -> str:
        function = f"@llvm.{name}.{suffix}"
        self.declare(f"declare {kind} {function}({', '.join([kind] * len(values))})")
        return self.emit(f"call {kind} {function}({', '.join(f'{kind} {value}' for value in values)})")

    def formula(self, op: Op) -> str:
        lanes = op.kind.lanes
        self.formulas[op.name, self.kernel.dtype, lanes] = None
        kind = self.type(op.kind)
        values = [f"{kind} {self.widened(arg, lanes)}" for arg in op.args]
        return self.emit(f'call {kind} @"fastpoly.{op.name}.{self.suffix(op.kind)}"({", ".join(values)})')

    def do_neg(self, op: Op) -> str:
        return self.emit(f"fneg contract {self.type(op.kind)} {self.value(op.args[0])}")

    def do_not(self, op: Op) -> str:
        value = self.value(op.args[0])
        every = "splat (i1 true)" if op.kind.lanes else "true"
        return self.emit(f"xor {self.type(op.kind)} {value}, {every}")

    def do_where(self, op: Op) -> str:
        test, *sides = op.args
        truth = self.value(test)
        kind = self.type(op.kind)
        one, other = (self.widened(side, op.kind.lanes) for side in sides)
        return self.emit(f"select {self.type(test.kind)} {truth}, {kind} {one}, {kind} {other}")

    def do_isfinite(self, op: Op) -> str:
        value, kind = self.value(op.args[0]), self.type(op.args[0].kind)
        difference = self.emit(f"fsub {kind} {value}, {value}")
        return self.emit(f"fcmp ord {kind} {difference}, {difference}")

    def do_all_lanes(self, op: Op) -> str:
        kind = self.type(op.args[0].kind)
        function = f"@llvm.vector.reduce.and.v{op.args[0].kind.lanes}i1"
        self.declare(f"declare i1 {function}({kind})")
        return self.emit(f"call i1 {function}({kind} {self.value(op.args[0])})")

    def do_position(self, op: Op) -> str:
        return self.emit(f"sitofp i64 {self.value(op.args[0])} to {self.element}")

    def do_integer(self, op: Op) -> str:
        lanes, value = op.kind.lanes, f"{self.type(op.args[0].kind)} {self.value(op.args[0])}"
        if not lanes:
            return self.emit(f"fptosi {value} to i64")
        short = f"<{lanes} x i32>"  # for which there is an instruction, and 2**31 elements are 8 GiB
        return self.emit(f"sext {short} {self.emit(f'fptosi {value} to {short}')} to {self.type(op.kind)}")

    def do_min(self, op: Op) -> str:
        one, other = map(self.value, op.args)
        less = self.emit(f"icmp slt i64 {one}, {other}")
        return self.emit(f"select i1 {less}, i64 {one}, i64 {other}")

    def do_splat(self, op: Op) -> str:
        return self.widened(op.args[0], op.kind.lanes)

    def in_every_lane(self, index: Expr, lanes: int) -> str:
        """An index in 32 bits, in each lane."""
        wide, short = f"<{lanes} x i32>", self.emit(f"trunc i64 {self.value(index)} to i32")
        one = self.emit(f"insertelement {wide} poison, i32 {short}, i64 0")
        return self.emit(f"shufflevector {wide} {one}, {wide} poison, {wide} zeroinitializer")

    def do_first_lanes(self, op: Op) -> str:
        every = self.in_every_lane(op.args[0], op.kind.lanes)
        return self.emit(f"icmp slt <{op.kind.lanes} x i32> <{multiples(1, op.kind.lanes)}>, {every}")

    def do_positions(self, op: Op) -> str:
        first, step = op.args
        assert isinstance(step, Const)
        lanes, every = op.kind.lanes, self.in_every_lane(first, op.kind.lanes)
        places = self.emit(f"add <{lanes} x i32> {every}, <{multiples(int(step.value), lanes)}>")
        return self.emit(f"sitofp <{lanes} x i32> {places} to {self.type(op.kind)}")

    def do_masked(self, op: Op) -> str:
        mask, value = op.args
        kind, truth = self.type(op.kind), self.value(mask)
        wide = self.widened(value, op.kind.lanes)
        return self.emit(f"select {self.type(mask.kind)} {truth}, {kind} {wide}, {kind} zeroinitializer")

    def do_widened(self, op: Op) -> str:
        (arg,) = op.args
        kind, lanes = self.type(arg.kind), arg.kind.lanes
        order = ", ".join(f"i32 {min(lane, lanes)}" for lane in range(op.kind.lanes))
        value = self.value(arg)
        return self.emit(f"shufflevector {kind} {value}, {kind} zeroinitializer, <{op.kind.lanes} x i32> <{order}>")

    def do_packed(self, op: Op) -> str:
        kind, value = self.type(op.kind), "poison"
        for lane, arg in enumerate(op.args):
            value = self.emit(f"insertelement {kind} {value}, {self.element} {self.value(arg)}, i64 {lane}")
        return value

    def do_lane(self, op: Op) -> str:
        register, lane = op.args
        return self.emit(f"extractelement {self.type(register.kind)} {self.value(register)}, i64 {self.value(lane)}")

    def reduced(self, op: Op) -> str:
        """One half of the lanes with the other, until one is left: what is narrower is faster."""
        value, lanes = self.value(op.args[0]), op.args[0].kind.lanes
        while lanes > 1:
            kind, lanes = f"<{lanes} x {self.element}>", lanes // 2
            orders = [", ".join(f"i32 {start + lane}" for lane in range(lanes)) for start in (0, lanes)]
            shuffle = f"shufflevector {kind} {value}, {kind} poison, <{lanes} x i32>"
            halves = [self.emit(f"{shuffle} <{order}>") for order in orders]
            value = self.combined(REDUCED[op.name], Kind("float", lanes), halves)
        return self.emit(f"extractelement <1 x {self.element}> {value}, i64 0")

    do_total = do_product = do_largest = do_smallest = reduced

    def do_totals(self, op: Op) -> str:
        """Halves of the lanes of two registers meet in one, until each register is in one lane."""
        values, count, width = [self.value(arg) for arg in op.args], len(op.args), op.args[0].kind.lanes
        values += values[-1:] * ((1 << (count - 1).bit_length()) - count)
        parts = 1  # of so many lanes each, `width`, a value consists
        while width > 1 or len(values) > 1:
            kind = f"<{parts * width} x {self.element}>"
            pairs = zip(values[::2], values[1::2], strict=True) if len(values) > 1 else [(values[0], "poison")]
            parts *= min(len(values), 2)
            width //= 2
            values = [self.halves(one, other, kind, parts, width) for one, other in pairs]
        order = ", ".join(f"i32 {lane}" for lane in range(count))
        kind = f"<{parts} x {self.element}>"
        return self.emit(f"shufflevector {kind} {values[0]}, {kind} poison, <{count} x i32> <{order}>")

    def halves(self, one: str, other: str, kind: str, parts: int, width: int) -> str:
        """The sum of the first and the second half of each part; `width` lanes are a half."""
        orders = (
            ", ".join(f"i32 {(2 * part + side) * width + lane}" for part in range(parts) for lane in range(width))
            for side in (0, 1)
        )
        shuffle = f"shufflevector {kind} {one}, {kind} {other}, <{parts * width} x i32>"
        sides = [self.emit(f"{shuffle} <{order}>") for order in orders]
        return self.combined("add", Kind("float", parts * width), sides)
