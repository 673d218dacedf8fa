"""A thin layer over llvmlite.ir: addresses in bytes, structured loops, vectors. One Emitter writes one LLVM function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from llvmlite import ir

# llvmlite has no type hints: an instruction, an argument or a constant; and a type of one
Value = Any
Type = Any

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32, PTR, VOID = ir.FloatType(), ir.PointerType(), ir.VoidType()

# every kernel: the words of its call (pointers, then the number of images), and the range of units that it is to compute
KERNEL_TYPE = ir.FunctionType(VOID, [PTR, I64, I64])


@cache
def vec(element: Type, lanes: int) -> Type:
    """<lanes x element>"""
    return ir.VectorType(element, lanes)


# llvmlite renders a constant each time it meets one, unless it is the same object
@cache
def i64(value: int) -> Value:
    """A 64-bit constant."""
    return ir.Constant(I64, value)


@cache
def splat(vector: Type, value: float) -> Value:
    """A constant vector with the same value in each lane."""
    return ir.Constant(vector, [value] * vector.count)


@cache
def _mask(lanes: tuple[int, ...]) -> Value:
    return ir.Constant(vec(I32, len(lanes)), list(lanes))


class Emitter:
    """Writes the body of one function: `b` is the llvmlite builder for single instructions, the methods are what kernels share.

    Offsets, counts and loop bounds may be Python ints or 64-bit values; what is known is folded here, so that the IR has no
    arithmetic on constants. Vectors in memory need no alignment unless it is given.

    Args:
        module: where the function goes.
        name: its symbol.
        type: of the function.
    """

    def __init__(self, module: Any, name: str, type: Type = KERNEL_TYPE) -> None:
        self.module = module
        self.function = ir.Function(module, type, name)
        self.arguments: tuple[Value, ...] = tuple(self.function.args)
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))

    # ---- memory

    def at(self, pointer: Value, offset: Value | int) -> Value:
        """pointer + offset bytes"""
        if isinstance(offset, int) and offset == 0:
            return pointer
        return self.b.gep(pointer, [_value(offset)], source_etype=I8)

    def load(self, pointer: Value, type: Type, offset: Value | int = 0, align: int = 1) -> Value:
        """The value of that type, `offset` bytes behind the pointer."""
        loaded = self.b.load(self.at(pointer, offset), typ=type)
        loaded.align = align
        return loaded

    def store(self, value: Value, pointer: Value, offset: Value | int = 0, align: int = 1) -> None:
        """Writes the value `offset` bytes behind the pointer."""
        self.b.store(value, self.at(pointer, offset)).align = align

    def scratch(self, nbytes: int) -> Value:
        """Memory of the function's own, at a multiple of 64."""
        with self.b.goto_entry_block():
            place = self.b.alloca(I8, nbytes)
        place.align, place.type = 64, PTR
        return place

    def fill(self, pointer: Value, byte: Value, count: Value | int) -> None:
        """count bytes from pointer on become `byte`."""
        self.call("llvm.memset.p0.i64", VOID, [pointer, byte, _value(count), ir.Constant(I1, 0)])

    def prefetch(self, pointer: Value) -> None:
        """Asks for the cache line there, in the second-level cache. Nothing is read: any address will do."""
        self.call("llvm.prefetch.p0", VOID, [pointer, I32(0), I32(2), I32(1)])

    # ---- 64-bit integers

    def add(self, a: Value | int, b: Value | int) -> Value | int:
        """a + b"""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if isinstance(a, int) and a == 0:
            return b
        return a if isinstance(b, int) and b == 0 else self.b.add(_value(a), _value(b))

    def sub(self, a: Value | int, b: Value | int) -> Value | int:
        """a − b"""
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        return a if isinstance(b, int) and b == 0 else self.b.sub(_value(a), _value(b))

    def mul(self, a: Value | int, b: Value | int) -> Value | int:
        """a·b"""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if isinstance(a, int):
            return self.mul(b, a)
        return a if isinstance(b, int) and b == 1 else self.b.mul(a, _value(b))

    def minimum(self, a: Value | int, b: Value | int) -> Value | int:
        """min(a, b), with signs"""
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        return self.b.select(self.b.icmp_signed("<", _value(a), _value(b)), _value(a), _value(b))

    def maximum(self, a: Value | int, b: Value | int) -> Value | int:
        """max(a, b), with signs"""
        if isinstance(a, int) and isinstance(b, int):
            return max(a, b)
        return self.b.select(self.b.icmp_signed(">", _value(a), _value(b)), _value(a), _value(b))

    def divide(self, a: Value | int, b: Value | int) -> Value | int:
        """⌊a/b⌋ of a ≥ 0, b > 0"""
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        return a if isinstance(b, int) and b == 1 else self.b.udiv(_value(a), _value(b))

    def remainder(self, a: Value | int, b: int) -> Value | int:
        """a mod b of a ≥ 0"""
        if isinstance(a, int):
            return a % b
        return 0 if b == 1 else self.b.urem(a, i64(b))

    # ---- control flow

    def loop(
        self,
        start: Value | int,
        stop: Value | int,
        body: Callable[[Any, list[Value]], Iterable[Value] | None],
        carried: Sequence[Value] = (),
        *,
        step: int = 1,
    ) -> list[Value]:
        """for i in range(start, stop, step): carried = body(i, carried); returns what was carried last.

        A loop of one known turn is the body alone; one of none is nothing. body gets i as an int in the first case.
        """
        known = isinstance(start, int) and isinstance(stop, int)
        if known and start >= stop:
            return list(carried)
        if known and stop - start <= step:
            return list(body(start, list(carried)) or [])
        first, last, before = _value(start), _value(stop), self.b.block
        head, after = self.function.append_basic_block("loop"), self.function.append_basic_block("after")
        if known:
            self.b.branch(head)
        else:
            self.b.cbranch(self.b.icmp_signed("<", first, last), head, after)
        self.b.position_at_end(head)
        index = self.b.phi(I64)
        phis = [self.b.phi(value.type) for value in carried]
        results = list(body(index, list(phis)) or [])
        assert len(results) == len(phis), "a loop's body must return what it carries"
        following, end = self.b.add(index, i64(step)), self.b.block
        for phi, entering, coming_back in zip([index, *phis], [first, *carried], [following, *results], strict=True):
            self._join(phi, {before: entering, end: coming_back})
        self.b.cbranch(self.b.icmp_signed("<", following, last), head, after)
        self.b.position_at_end(after)
        if known:
            return results
        return [self._join(self.b.phi(skipped.type), {before: skipped, end: done}) for skipped, done in zip(carried, results, strict=True)]

    def _join(self, phi: Value, values: Mapping[Any, Value]) -> Value:
        """The phi takes each value where control comes from its block."""
        for block, value in values.items():
            phi.add_incoming(value, block)
        return phi

    def when(self, condition: Value, body: Callable[[], None]) -> None:
        """if condition: body()"""
        with self.b.if_then(condition):
            body()

    def select(self, condition: Value, a: Value | int, b: Value | int) -> Value:
        """condition ? a : b"""
        return self.b.select(condition, _value(a), _value(b))

    # ---- functions and vectors

    def call(self, name: str, result: Type, arguments: Sequence[Value]) -> Value:
        """Calls an intrinsic or a C function, declared on first use."""
        function = self.module.globals.get(name)
        if function is None:
            function = ir.Function(self.module, ir.FunctionType(result, [argument.type for argument in arguments]), name)
        return self.b.call(function, list(arguments))

    def broadcast(self, scalar: Value, vector: Type) -> Value:
        """The scalar in every lane."""
        first = self.b.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(I32, 0))
        return self.shuffle(first, [0] * vector.count)

    def shuffle(self, a: Value, lanes: Sequence[int], b: Value | None = None) -> Value:
        """result[i] = (a ++ b)[lanes[i]]"""
        return self.b.shuffle_vector(a, ir.Constant(a.type, ir.Undefined) if b is None else b, _mask(tuple(lanes)))

    def halves(self, vector: Value) -> tuple[Value, Value]:
        """Its first and its second half."""
        count = vector.type.count // 2
        return self.shuffle(vector, range(count)), self.shuffle(vector, range(count, 2 * count))

    def joined(self, parts: Sequence[Value]) -> Value:
        """Vectors of one type, a power of two of them → one vector."""
        while len(parts) > 1:
            count = parts[0].type.count
            parts = [self.shuffle(a, range(2 * count), b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]


def _value(value: Value | int) -> Value:
    return i64(value) if isinstance(value, int) else value
