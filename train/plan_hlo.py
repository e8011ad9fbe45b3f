"""A compiled program, read from its text: what each operation computes, moves and sends.

XLA's own `cost_analysis` counts the body of a loop once, however often it turns; a recurrent layer
is such a loop. Here every operation carries how often it runs. Loops whose number of turns depends
on the data (the transducer's loss ends where a batch's cells do) take the number that is given.

Counted are matrix products and convolutions (positions in padding not), bytes that go to and from
the chip's main memory (what the compiler keeps in on-chip memory, `S(1)` in a shape, is free), and
collectives. Of an operand that is sliced inside a fusion only the slice is counted.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

COLLECTIVES = ("all-gather", "all-to-all", "all-reduce", "reduce-scatter", "collective-permute")

_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s16": 2,
    "u16": 2,
    "f32": 4,
    "s32": 4,
    "u32": 4,
    "f64": 8,
    "s64": 8,
    "u64": 8,
    "c64": 8,
    "token": 0,
}
# Neither work nor traffic of their own.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier"),
    *("partition-id", "replica-id", "while", "conditional", "call", "async-start", "copy-done"),
    *("custom-call", "add-dependency", "domain"),
}
_SHAPE = re.compile(r"([a-z]+\d*)\[([\d,]*)\](\{[^{}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%([\w.\-]+)"
)


@dataclass(frozen=True)
class Shape:
    """An array; `main`: it lies in the chip's main memory."""

    dtype: str
    dims: tuple[int, ...]
    main: bool

    @property
    def bytes(self) -> int:
        return math.prod(self.dims) * _BYTES.get(self.dtype, 1)

    @property
    def traffic(self) -> int:
        return self.bytes if self.main else 0


@dataclass(frozen=True)
class Sent:
    """A collective: bytes that a chip contributes, and how many chips take part."""

    kind: str
    bytes: int
    group: int
    channel: int | None = None
    """Of one that other work overlaps, inside fusions: start, steps and end have the same."""

    @property
    def wire(self) -> float:
        """Bytes that a chip has to send, at least (rings)."""
        n = self.group
        share = {
            "all-reduce": 2.0 * (n - 1) / n,
            "all-gather": n - 1.0,
            "reduce-scatter": (n - 1) / n,
            "all-to-all": (n - 1) / n,
            "collective-permute": 1.0,
        }
        return self.bytes * share[self.kind]


@dataclass(frozen=True)
class Product:
    """Matrix products of one operation: `passes` are those that its precision takes."""

    flops: float
    rows: float
    depth: int
    columns: int
    passes: int = 1


@dataclass(frozen=True)
class Op:
    """An operation that the chip starts, and how often it does."""

    name: str
    opcode: str
    times: float
    traffic: float
    products: tuple[Product, ...] = ()
    sent: tuple[Sent, ...] = ()

    @property
    def flops(self) -> float:
        return sum(p.flops for p in self.products)


@dataclass
class _Instruction:
    name: str
    shapes: list[Shape]
    opcode: str
    operands: list[str]
    attributes: str
    root: bool


@dataclass
class _Computation:
    name: str
    instructions: list[_Instruction] = field(default_factory=list)

    @property
    def by_name(self) -> dict[str, _Instruction]:
        return {i.name: i for i in self.instructions}

    @property
    def root(self) -> _Instruction:
        return next((i for i in self.instructions if i.root), self.instructions[-1])


def _each_once(ops: list[Op]) -> list[Op]:
    """A collective that is spread over fusions counts where it is begun: where it is met the fewest
    times, for its steps may lie in a loop that it is to be done in the shade of."""
    begun: dict[int, int] = {}
    for at, op in enumerate(ops):
        for sent in op.sent:
            if sent.channel is not None:
                first = begun.setdefault(sent.channel, at)
                if op.times < ops[first].times:
                    begun[sent.channel] = at
    return [
        replace(op, sent=tuple(s for s in op.sent if s.channel is None or begun[s.channel] == at))
        for at, op in enumerate(ops)
    ]


class Program:
    """The operations of one chip's program.

    Args:
      text: as `compiled.as_text()` gives it.
      unknown_turns: of loops whose number of turns depends on the data.
      chips: in the collectives that name no group.
    """

    def __init__(self, text: str, *, unknown_turns: int = 1, chips: int = 1):
        self._turns, self._chips = unknown_turns, chips
        self._computations, entry = _read(text)
        self.ops: list[Op] = _each_once(list(self._ops(self._computations[entry], 1.0)))

    @property
    def flops(self) -> float:
        return sum(op.flops * op.times for op in self.ops)

    @property
    def traffic(self) -> float:
        return sum(op.traffic * op.times for op in self.ops)

    def collectives(self) -> dict[str, tuple[float, float]]:
        """Kind -> (how often, bytes contributed) a step."""
        found: dict[str, tuple[float, float]] = {}
        for op in self.ops:
            for sent in op.sent:
                count, total = found.get(sent.kind, (0.0, 0.0))
                found[sent.kind] = (count + op.times, total + op.times * sent.bytes)
        return found

    def _ops(self, computation: _Computation, times: float) -> Iterator[Op]:
        names = computation.by_name
        for i in computation.instructions:
            if i.opcode == "while":
                called = dict(re.findall(r"(condition|body)=%([\w.\-]+)", i.attributes))
                turns = self._turns_of(i, self._computations[called["condition"]])
                yield from self._ops(self._computations[called["body"]], times * turns)
            elif i.opcode == "conditional":
                branches = re.findall(r"branch_computations=\{([^}]*)\}", i.attributes)
                called = _NAME.findall(branches[0]) if branches else _CALLED.findall(i.attributes)
                ways = [list(self._ops(self._computations[c], times)) for c in called]
                yield from max(ways, key=lambda ops: sum(o.traffic * o.times for o in ops))
            elif i.opcode in ("call", "async-start"):
                for called in _CALLED.findall(i.attributes):
                    yield from self._ops(self._computations[called], times)
            elif i.opcode not in _FREE and not i.opcode.endswith("-done"):
                yield self._op(i, names, times)

    def _op(self, i: _Instruction, names: Mapping[str, _Instruction], times: float) -> Op:
        inside = [(i, names), *self._fused(i)]
        sent = [s for s in (self._sent(part, held) for part, held in inside) if s]
        if i.opcode != "fusion":
            sent = [replace(s, channel=None) for s in sent]
        return Op(
            i.name,
            i.opcode,
            times,
            0.0 if sent else self._moved(i, names),
            tuple(p for p in (_product(part, held) for part, held in inside) if p),
            tuple(sent),
        )

    def _fused(self, i: _Instruction) -> Iterator[tuple[_Instruction, Mapping[str, _Instruction]]]:
        """What lies in a fusion, fusions in it opened too."""
        if i.opcode != "fusion":
            return
        for called in _CALLED.findall(i.attributes):
            names = self._computations[called].by_name
            for part in names.values():
                yield part, names
                yield from self._fused(part)

    def _turns_of(self, loop: _Instruction, condition: _Computation) -> int:
        known = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.attributes)
        if known:
            return int(known[1])
        # Otherwise the condition compares a count from 0 with a constant, or with what it is given.
        bounds = [
            int(found[1])
            for i in condition.instructions
            if i.opcode == "constant" and (found := re.match(r"\((-?\d+)\)", i.attributes))
        ]
        return bounds[0] if len(bounds) == 1 else self._turns

    def _sent(self, i: _Instruction, names: Mapping[str, _Instruction]) -> Sent | None:
        kind = i.opcode.removesuffix("-start")
        if kind not in COLLECTIVES:
            return None
        total = sum(s.bytes for name in i.operands if name in names for s in names[name].shapes)
        group = 2 if kind == "collective-permute" else self._group(i.attributes)
        channel = re.search(r"channel_id=(\d+)", i.attributes)
        return Sent(kind, total, group, int(channel[1]) if channel else None) if group > 1 else None

    def _group(self, attributes: str) -> int:
        short = re.search(r"replica_groups=\[(\d+),(\d+)\]<=", attributes)
        if short:
            return int(short[2])
        named = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes)
        if named:  # mesh['a'=4,'b'=2] {'a'}; a part of an axis is 'a':(before)size
            sizes = {name: int(size) for name, size in re.findall(r"('\w+')=(\d+)", named[1])}
            axes = re.findall(r"('\w+')(?::\(\d+\)(\d+))?", named[2])
            return math.prod(int(part) if part else sizes[name] for name, part in axes)
        listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
        return len(listed[1].split(",")) if listed else self._chips

    def _moved(self, i: _Instruction, names: Mapping[str, _Instruction]) -> float:
        """Bytes to and from main memory."""
        operands = [names[name] for name in i.operands if name in names]
        if i.opcode == "fusion":
            called = self._computations[_CALLED.findall(i.attributes)[0]]
            read = sum(self._read_by(called, n, o.shapes) for n, o in enumerate(operands))
            return read + self._written(called, i.shapes)
        if i.opcode in ("dynamic-slice", "slice", "gather"):
            main = any(s.main for o in operands[:1] for s in o.shapes)
            return sum(s.bytes * main + s.traffic for s in i.shapes)
        if i.opcode == "dynamic-update-slice" and len(operands) > 1:
            main = any(s.main for s in i.shapes)
            return sum(s.traffic + s.bytes * main for s in operands[1].shapes)
        if i.opcode == "copy-start":
            return sum(s.traffic for s in i.shapes[:2])
        if i.opcode == "slice-start":  # (what is cut, the slice, a flag)
            return i.shapes[0].traffic and sum(s.bytes + s.traffic for s in i.shapes[1:2])
        return sum(s.traffic for o in operands for s in o.shapes) + sum(s.traffic for s in i.shapes)

    def _read_by(self, fused: _Computation, number: int, given: Sequence[Shape]) -> float:
        """Of the fusion's operand `number`, the bytes that it reads."""
        whole = float(sum(s.traffic for s in given))
        parameter = next(
            (
                i.name
                for i in fused.instructions
                if i.opcode == "parameter" and i.attributes.startswith(f"({number})")
            ),
            None,
        )
        if not whole or parameter is None:
            return whole
        part = self._sliced(fused, parameter)
        return whole if part is None else min(whole, part)

    def _sliced(self, fused: _Computation, name: str) -> float | None:
        """Bytes that slices read of an array in a fusion; None where something reads it whole."""
        total = 0.0
        for user in fused.instructions:
            if name not in user.operands:
                continue
            if user.opcode in ("dynamic-slice", "slice", "gather") and user.operands[0] == name:
                total += sum(s.bytes for s in user.shapes)
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
                continue
            elif user.opcode in ("bitcast", "reshape", "transpose", "copy"):
                part = self._sliced(fused, user.name)
                if part is None:
                    return None
                total += part
            elif user.opcode == "fusion":
                inner = self._computations[_CALLED.findall(user.attributes)[0]]
                for number, operand in enumerate(user.operands):
                    if operand == name:
                        whole = fused.by_name[name].shapes
                        shapes = [replace(s, main=True) for s in whole]
                        read = self._read_by(inner, number, shapes)
                        if read >= sum(s.bytes for s in shapes):
                            return None
                        total += read
            else:
                return None
        return total

    def _written(self, fused: _Computation, shapes: Sequence[Shape]) -> float:
        """Bytes that a fusion writes: of an update in place, the update."""
        names = fused.by_name
        root = fused.root
        roots = [names[n] for n in root.operands] if root.opcode == "tuple" else [root]
        if len(roots) != len(shapes):
            return float(sum(s.traffic for s in shapes))
        total = 0.0
        for made, shape in zip(roots, shapes, strict=True):
            while made.opcode in ("bitcast", "reshape") and made.operands[0] in names:
                made = names[made.operands[0]]
            size = shape.bytes
            if made.opcode == "dynamic-update-slice" and made.operands[1] in names:
                size = min(size, sum(s.bytes for s in names[made.operands[1]].shapes))
            total += size if shape.main else 0
        return total


def _read(text: str) -> tuple[dict[str, _Computation], str]:
    """(computations by name, the name of the one that the program begins with)."""
    found: dict[str, _Computation] = {}
    entry, current = "", None
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if line and not line[0].isspace() and line.endswith("{") and "->" in line:
            name = line.removeprefix("ENTRY ").split()[0].removeprefix("%")
            current = found[name] = _Computation(name)
            entry = name if line.startswith("ENTRY") else entry
        elif current is not None and " = " in line:
            current.instructions.append(_instruction(line))
    return found, entry


def _instruction(line: str) -> _Instruction:
    left, right = line.split(" = ", 1)
    end = _closing(right) + 1 if right.startswith("(") else right.index(" ")
    shapes, rest = right[:end], right[end:].strip()
    opcode, _, rest = rest.partition("(")
    rest = "(" + rest
    close = _closing(rest)
    held = rest[: close + 1]
    return _Instruction(
        left.split()[-1].removeprefix("%"),
        [
            Shape(
                dtype,
                tuple(int(n) for n in dims.split(",") if n),
                re.search(r"S\([1-9]\d*\)", layout) is None,
            )
            for dtype, dims, layout in _SHAPE.findall(shapes)
        ],
        opcode,
        _NAME.findall(held),
        # What stands in the parentheses of a constant or a parameter is wanted too.
        rest if opcode in ("constant", "parameter") else rest[close + 1 :],
        left.lstrip().startswith("ROOT"),
    )


def _closing(text: str) -> int:
    """Where the parenthesis closes that `text` begins with."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return at
    return len(text) - 1


def _product(i: _Instruction, names: Mapping[str, _Instruction]) -> Product | None:
    if i.opcode not in ("dot", "convolution") or not all(n in names for n in i.operands[:2]):
        return None
    left, right = (names[n].shapes[0].dims for n in i.operands[:2])
    out = i.shapes[0].dims
    passes = 6 if "highest" in i.attributes else 3 if "high}" in i.attributes else 1
    if i.opcode == "dot":
        found = re.search(r"rhs_contracting_dims=\{([\d,]*)\}", i.attributes)
        batch = re.search(r"rhs_batch_dims=\{([\d,]*)\}", i.attributes)
        over = {int(n) for n in found[1].split(",") if n} if found else set()
        beside = {int(n) for n in batch[1].split(",") if n} if batch else set()
        depth = math.prod(right[n] for n in over)
        columns = math.prod(d for n, d in enumerate(right) if n not in over | beside)
        flops = 2.0 * math.prod(out) * depth
        return Product(flops, math.prod(out) / columns, depth, columns, passes)
    return _convolution(i.attributes, left, right, out, passes)


def _convolution(
    attributes: str, left: Sequence[int], right: Sequence[int], out: Sequence[int], passes: int
) -> Product:
    """Of a TPU program's matrix products too: there they are convolutions."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", attributes)
    assert labels is not None
    of_left, of_right, of_out = labels.groups()
    window = dict(
        re.findall(r"(\w+)=([\dx_\-]+)", (re.findall(r"window=\{([^}]*)\}", attributes) or [""])[0])
    )
    spatial = sorted(c for c in of_right if c.isdigit())
    positions = 1.0
    for n, axis in enumerate(spatial):
        positions *= _positions(
            left[of_left.index(axis)],
            right[of_right.index(axis)],
            out[of_out.index(axis)],
            stride=int(window["stride"].split("x")[n]) if "stride" in window else 1,
            low=int(window["pad"].split("x")[n].split("_")[0]) if "pad" in window else 0,
            dilated=int(window["rhs_dilate"].split("x")[n]) if "rhs_dilate" in window else 1,
            spread=int(window["lhs_dilate"].split("x")[n]) if "lhs_dilate" in window else 1,
        )
    depth, columns = right[of_right.index("i")], out[of_out.index("f")]
    rows = out[of_out.index("b")]
    flops = 2.0 * rows * columns * depth * positions
    if "feature_group_count" in attributes:  # depthwise: no matrix to fill up
        return Product(flops, rows * positions, 0, 0, passes)
    return Product(flops, rows * positions, depth, columns, passes)


def _positions(
    size: int, kernel: int, out: int, *, stride: int, low: int, dilated: int, spread: int
) -> int:
    """Pairs of output and kernel positions that meet an input, and not padding."""
    total = 0
    last = (size - 1) * spread
    for k in range(kernel):
        shift = k * dilated - low
        # o * stride + shift in [0, last] and a multiple of spread
        first = max(0, -(shift // stride) if shift < 0 else 0)
        end = min(out - 1, (last - shift) // stride) if last >= shift else -1
        if end < first:
            continue
        if spread == 1:
            total += end - first + 1
        else:
            total += sum((o * stride + shift) % spread == 0 for o in range(first, end + 1))
    return total
