"""Float ops on rows: each element by itself, with that of another tensor, or normalized with the others of its row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from llvmlite import ir

from fxq.runtime.jit.curves import CURVES, Curves
from fxq.runtime.jit.ir import F32, I32, Emitter, Value, splat, vec
from fxq.runtime.jit.kernel import Kernel, Span, Work
from fxq.runtime.jit.kernels.dynamic_rows import FLOAT
from fxq.runtime.jit.rows import each_vector

# bytes of a number among parameters; sums of a row that are added to in turn
NUMBER, _SUMS = 64, 4


@dataclass(frozen=True)
class FloatRows(Kernel):
    """Rows of adjacent floats, one after the other; a row is an image, so that any number of them has the same code.

    Attributes:
        features: of a row.
    """

    features: int

    def units(self, images: int) -> int:
        return images

    def spans(self) -> tuple[Span, ...]:
        row = Span(0, FLOAT * self.features, FLOAT * self.features)
        return tuple(Span(0, self.parameter_bytes) if name == "parameters" else row for name in self.operands)

    @property
    def parameter_bytes(self) -> int:
        """Of what all rows share."""
        return 0

    def emit(self, e: Emitter, work: Work) -> None:
        def row(number: Value, _: Any) -> None:
            offset = e.mul(number, FLOAT * self.features)
            moved = (p if name == "parameters" else e.at(p, offset) for name, p in zip(self.operands, work.pointers, strict=True))
            self.row(e, dict(zip(self.operands, moved, strict=True)))

        e.loop(work.begin, work.end, row)

    @abstractmethod
    def row(self, e: Emitter, pointers: dict[str, Value]) -> None:
        """Writes one row; pointers are to its first element in each operand, and to the parameters."""


def _vector(e: Emitter, pointer: Value, first: Any, count: int) -> Value:
    return e.load(e.at(pointer, e.mul(first, FLOAT)), vec(F32, count))


@dataclass(frozen=True)
class Curve(FloatRows):
    """y = f(x)

    Attributes:
        function: a key of CURVES.
    """

    function: str

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "y")

    def row(self, e: Emitter, pointers: dict[str, Value]) -> None:
        def part(first: Any, count: int) -> None:
            values = _vector(e, pointers["x"], first, count)
            e.store(CURVES[self.function](Curves(e, values.type), values), pointers["y"], e.mul(first, FLOAT))

        each_vector(e, self.features, self.isa.lanes, part)


@dataclass(frozen=True)
class Arithmetic(FloatRows):
    """y = x ∘ other

    Attributes:
        instruction: of LLVM: "fadd", "fsub" or "fmul".
        constant: "first" or "second": that operand is one row, among the parameters; "": both are tensors.
    """

    instruction: str
    constant: str = ""

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "parameters" if self.constant else "other", "y")

    @property
    def parameter_bytes(self) -> int:
        return FLOAT * self.features

    def row(self, e: Emitter, pointers: dict[str, Value]) -> None:
        x, other, y = (pointers[name] for name in self.operands)

        def part(first: Any, count: int) -> None:
            pair = [_vector(e, pointer, first, count) for pointer in ((other, x) if self.constant == "first" else (x, other))]
            e.store(getattr(e.b, self.instruction)(*pair), y, e.mul(first, FLOAT))

        each_vector(e, self.features, self.isa.lanes, part)


@dataclass(frozen=True)
class NormForm:
    """What a norm computes.

    Attributes:
        centered: the mean is taken off; else it counts as 0.
        gained, shifted: whether there are γ, β.
    """

    centered: bool
    gained: bool
    shifted: bool


@dataclass(frozen=True)
class NormRows(FloatRows):
    """sum = x + other; y = γ·(sum − mean)/√(variance + eps) + β, of each row. Parameters are eps, γ and β.

    Attributes:
        added: there is another tensor; the sum is that of x alone otherwise.
        kept: the sum is a result, too.
    """

    added: bool
    kept: bool
    form: NormForm

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", *(("other",) if self.added else ()), "parameters", *(("sum",) if self.kept else ()), "y")

    @property
    def parameter_bytes(self) -> int:
        return NUMBER + FLOAT * self.features * (self.form.gained + self.form.shifted)

    def row(self, e: Emitter, pointers: dict[str, Value]) -> None:
        distance = self._centered(e, pointers) if self.form.centered else None
        read = partial(self._summand, e, pointers) if distance is None else distance

        def square(first: Any, count: int) -> Value:
            values = read(first, count)
            return e.b.fmul(values, values)

        variance = e.b.fdiv(self._total(e, square), ir.Constant(F32, self.features))
        source = self._sums(pointers)
        root = e.call("llvm.sqrt.f32", F32, [e.b.fadd(variance, e.load(pointers["parameters"], F32))])
        factor = e.b.fdiv(ir.Constant(F32, 1.0), root)

        def part(first: Any, count: int) -> Value:
            values = _vector(e, source, first, count) if distance is None else distance(first, count)
            scaled = e.b.fmul(values, e.broadcast(factor, values.type))
            return self._affine(e, pointers["parameters"], first, scaled)

        self._each(e, lambda first, count: e.store(part(first, count), pointers["y"], e.mul(first, FLOAT)))

    def _centered(self, e: Emitter, pointers: dict[str, Value]) -> Callable[[Any, int], Value]:
        """(first, count) → the sums less their mean, for which they are all read."""
        total = self._total(e, partial(self._summand, e, pointers))
        mean = e.b.fdiv(total, ir.Constant(F32, self.features))
        source = self._sums(pointers)

        def centered(first: Any, count: int) -> Value:
            values = _vector(e, source, first, count)
            return e.b.fsub(values, e.broadcast(mean, values.type))

        return centered

    def _sums(self, pointers: dict[str, Value]) -> Value:
        """Where the sums of the row are: where they are kept, where the results will be, or in x."""
        return pointers["sum"] if self.kept else pointers["y" if self.added else "x"]

    def _summand(self, e: Emitter, pointers: dict[str, Value], first: Any, count: int) -> Value:
        values = _vector(e, pointers["x"], first, count)
        if self.added:
            values = e.b.fadd(values, _vector(e, pointers["other"], first, count))
            e.store(values, self._sums(pointers), e.mul(first, FLOAT))
        return values

    def _affine(self, e: Emitter, parameters: Value, first: Any, values: Value) -> Value:
        count, offset = values.type.count, e.add(NUMBER, e.mul(first, FLOAT))
        if self.form.gained:
            values = e.b.fmul(values, e.load(e.at(parameters, offset), vec(F32, count)))
            offset = e.add(offset, FLOAT * self.features)
        return e.b.fadd(values, e.load(e.at(parameters, offset), vec(F32, count))) if self.form.shifted else values

    def _each(self, e: Emitter, body: Callable[[Any, int], None]) -> None:
        """Whole vectors, then the rest: none twice, since results may lie where they are computed from."""
        lanes = self.isa.lanes
        whole = self.features // lanes * lanes
        e.loop(0, whole, lambda first, _: body(first, lanes), step=lanes)
        if whole < self.features:
            body(whole, self.features - whole)

    def _total(self, e: Emitter, value: Callable[[Any, int], Value]) -> Value:
        """The sum of value(first, count) over the row."""
        lanes, reals = self.isa.lanes, self.isa.reals
        step = _SUMS * lanes
        turns = self.features // step * step

        def add(first: Any, carried: list[Value]) -> list[Value]:
            return [e.b.fadd(total, value(e.add(first, i * lanes), lanes)) for i, total in enumerate(carried)]

        totals = e.loop(0, turns, add, [splat(reals, 0.0)] * _SUMS, step=step)
        for first in range(turns, self.features, lanes):
            rest = value(first, min(lanes, self.features - first))
            totals = [e.b.fadd(totals[0], _whole(e, rest, lanes)), *totals[1:]]
        while len(totals) > 1:
            totals = [e.b.fadd(*pair) for pair in zip(totals[::2], totals[1::2], strict=True)]
        total = totals[0]
        while total.type.count > 1:
            total = e.b.fadd(*e.halves(total))
        return e.b.extract_element(total, I32(0))


def _whole(e: Emitter, values: Value, lanes: int) -> Value:
    """With zeros behind."""
    count = values.type.count
    return values if count == lanes else e.shuffle(values, [*range(count), *[count] * (lanes - count)], splat(values.type, 0.0))
