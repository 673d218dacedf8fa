"""ISAS: what an instruction set brings to a kernel. Kernels are written once, over this.

An accumulator is a vector of i32, one lane for each output channel. Four bytes of the input meet four bytes of the weights in
each lane: acc[lane] += Σ_t u8[t]·s8[lane][t], exact in int32 on every ISA.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numpy.typing import NDArray

from fxq.errors import ConfigError
from fxq.runtime.jit.ir import F32, I8, I16, I32, I64, Emitter, Type, Value, splat, vec

TAPS = 4  # bytes that meet in one lane of a dot product


@dataclass(frozen=True)
class Raised:
    """f32 lanes base + a; base is 0 or a power of two."""

    values: Value
    base: float


@dataclass(frozen=True, repr=False)
class Isa:
    """Plain LLVM vectors, for any CPU that LLVM knows; the other rows replace what their instructions do better.

    Attributes:
        name: as FXQ_ISA and messages have it.
        features: what the CPU must have, in LLVM's spelling.
        cpu: what LLVM compiles for: "host", or a CPU without the instructions that the ISA must not use.
        vector_bytes: of one register.
        registers: vector registers that a kernel may count on.
    """

    name: str = "plain"
    features: tuple[str, ...] = ()
    cpu: str = "generic"
    vector_bytes: int = 16
    registers: int = 16

    def __repr__(self) -> str:
        return self.name

    @property
    def lanes(self) -> int:
        """32-bit lanes of a vector."""
        return self.vector_bytes // 4

    @property
    def sums(self) -> Type:
        """The type of an accumulator: i32 lanes."""
        return vec(I32, self.lanes)

    @property
    def reals(self) -> Type:
        """f32 lanes."""
        return vec(F32, self.lanes)

    @property
    def bytes(self) -> Type:
        """A register of bytes."""
        return vec(I8, self.vector_bytes)

    @property
    def interleaves(self) -> bool:
        """Whether `channels` is the order in which bytes interleave inside 128-bit blocks."""
        return False

    @property
    def available(self) -> bool:
        """Whether this machine can run it."""
        return set(self.features) <= _host_features()

    # ---- dot products

    @property
    def saturating(self) -> Isa | None:
        """The same with a faster dot product, which saturates sums of two products at 16 bits; None where there is none."""
        return None

    def arrange(self, taps: NDArray[np.int8]) -> NDArray[np.int8]:
        """Weights [..., lanes, 4] → [..., vector_bytes] in the order in which load_weights reads them."""
        return np.moveaxis(taps, -1, -2).reshape(*taps.shape[:-2], self.vector_bytes)

    def load_weights(self, e: Emitter, pointer: Value, offset: Value | int) -> Any:
        """Arranged weights of one vector of channels, as dot takes them."""
        sums = self.sums
        return [e.b.sext(e.load(pointer, vec(I8, self.lanes), e.add(offset, t * self.lanes)), sums) for t in range(TAPS)]

    def activations(self, e: Emitter, taps: Value) -> Any:
        """u8 taps, four to a lane, in a vector of i32 lanes → as dot takes them."""
        low = splat(self.sums, 255)
        return [e.b.and_(e.b.lshr(taps, splat(self.sums, 8 * t)) if t else taps, low) for t in range(TAPS)]

    def broadcast(self, e: Emitter, pointer: Value, offset: Value | int) -> Any:
        """The four bytes there, in every lane, as dot takes them."""
        return self.activations(e, e.broadcast(e.load(pointer, I32, offset), self.sums))

    def dot(self, e: Emitter, acc: Value, activations: Any, weights: Any) -> Value:
        """acc[lane] + Σ_t activations[lane][t]·weights[lane][t]"""
        for u, s in zip(activations, weights, strict=True):
            acc = e.b.add(acc, e.b.mul(u, s))
        return acc

    def dots(self, e: Emitter, acc: Value, activations: Sequence[Any], weights: Sequence[Any]) -> Value:
        """acc and several dot products; where they saturate, the sums of pairs of all of them together have to fit."""
        for u, s in zip(activations, weights, strict=True):
            acc = self.dot(e, acc, u, s)
        return acc

    # ---- real numbers

    def multiply_add(self, e: Emitter, a: Value, b: Value, c: Value) -> Value:
        """a·b + c of f32 lanes: the product is rounded too where there is no instruction for both."""
        return e.b.fadd(e.b.fmul(a, b), c)

    def nibble(self, e: Emitter, words: Value, number: int) -> Value:
        """Four bits with a sign of each lane, the lowest of which is bit 4·number, as f32."""
        raised = e.b.shl(words, splat(self.sums, 28 - 4 * number)) if number < 7 else words
        return e.b.sitofp(e.b.ashr(raised, splat(self.sums, 28)), self.reals)

    def from_half(self, e: Emitter, bits: Value) -> Value:
        """Finite f16, as i16 lanes → f32: the exponents differ by 112, also of what is below the smallest normal number."""
        raised = e.b.shl(e.b.sext(bits, self.sums), splat(self.sums, 13))
        value = e.b.bitcast(e.b.and_(raised, splat(self.sums, -0x70000001)), self.reals)
        return e.b.fmul(value, splat(self.reals, 2.0**112))

    def widened(self, e: Emitter, row: Value, lanes: NDArray[np.int64]) -> list[Raised]:
        """Bytes as numbers, exactly: lane l of vector j has row[lanes[j, l]]."""
        return [Raised(e.b.sitofp(e.b.zext(e.shuffle(row, own), self.sums), self.reals), 0.0) for own in lanes.tolist()]

    # ---- tables

    def lookup(self, e: Emitter, table: Value, indices: Value) -> Value:
        """table[i] for each byte of a vector; the table has 256 bytes."""
        result = ir.Constant(indices.type, ir.Undefined)
        for lane in range(indices.type.count):
            offset = e.b.zext(e.b.extract_element(indices, I32(lane)), I64)
            result = e.b.insert_element(result, e.load(table, I8, offset), I32(lane))
        return result

    # ---- from accumulators to bytes

    def channels(self, vectors: int) -> NDArray[np.int64]:
        """[vectors, lanes]: which channel of a panel each lane of its accumulators holds, so that pack_rows gives bytes in order."""
        return np.arange(vectors * self.lanes).reshape(vectors, self.lanes)

    def rint(self, e: Emitter, values: Value) -> Value:
        """f32 → i32, ties to even; of |v| < 2^31."""
        lanes = values.type.count
        return e.b.fptosi(e.call(f"llvm.roundeven.v{lanes}f32", values.type, [values]), vec(I32, lanes))

    def pack_rows(self, e: Emitter, rows: Sequence[Sequence[Value]], zero_point: Value | None) -> list[Value]:
        """clip(v + zero_point, 0, 255) of each row's accumulators → its bytes, in the order of the channels.

        Args:
            rows: of i32 vectors with |v| ≤ 2^31 − 256, lanes as `channels` says.
            zero_point: in every lane of an i16 vector of the register's width; None for 0.
        """
        return [self._pack_row(e, row, zero_point) for row in rows]

    def _pack_row(self, e: Emitter, row: Sequence[Value], zero_point: Value | None) -> Value:
        if zero_point is not None:
            wide = e.b.sext(e.shuffle(zero_point, range(self.lanes)), self.sums)
            row = [e.b.add(vector, wide) for vector in row]
        return e.joined([e.b.trunc(clip_lanes(e, vector, 0, 255), vec(I8, self.lanes)) for vector in row])


@dataclass(frozen=True, repr=False)
class _X86(Isa):
    """What x86 has at every width: products of bytes, saturating packs, and conversions that round to nearest even.

    Packs work inside each 128-bit block. With two vectors to a panel, block b of the first holds channels 8b..8b+3 and of the
    second 8b+4..8b+7: packs of two pixels then give, in block b, channels 8b..8b+7 of the one and of the other.

    Attributes:
        packs: names of the intrinsics that pack i32 → i16 with signs and i16 → u8.
        convert: name of the intrinsic f32 → i32.
    """

    packs: tuple[str, str] = ("", "")
    convert: str = ""

    @property
    def interleaves(self) -> bool:
        return True

    def channels(self, vectors: int) -> NDArray[np.int64]:
        block, lane = np.divmod(np.arange(self.lanes), 4)
        return np.stack([4 * vectors * block + 4 * j + lane for j in range(vectors)])

    def arrange(self, taps: NDArray[np.int8]) -> NDArray[np.int8]:
        return taps.reshape(*taps.shape[:-2], self.vector_bytes)

    def load_weights(self, e: Emitter, pointer: Value, offset: Value | int) -> Any:
        return e.load(pointer, self.bytes, offset, self.vector_bytes)

    def activations(self, e: Emitter, taps: Value) -> Any:
        return e.b.bitcast(taps, self.bytes)

    def multiply_add(self, e: Emitter, a: Value, b: Value, c: Value) -> Value:
        return e.call(f"llvm.fma.v{self.lanes}f32", self.reals, [a, b, c])

    def from_half(self, e: Emitter, bits: Value) -> Value:
        return e.b.fpext(e.b.bitcast(bits, vec(ir.HalfType(), self.lanes)), self.reals)

    def rint(self, e: Emitter, values: Value) -> Value:
        if values.type.count != self.lanes:
            return super().rint(e, values)
        return e.call(self.convert, self.sums, [values])

    def pack_rows(self, e: Emitter, rows: Sequence[Sequence[Value]], zero_point: Value | None) -> list[Value]:
        vectors = len(rows[0])
        if vectors not in (1, 2, 4):
            return super().pack_rows(e, rows, zero_point)
        together = 4 // vectors  # rows that fill a register of bytes
        packed: list[Value] = []
        for first in range(0, len(rows), together):
            group = list(rows[first : first + together])
            quads = [vector for row in group + group[:1] * (together - len(group)) for vector in row]
            packed += self._unblock(e, self._pack(e, quads, zero_point), together)[: len(group)]
        return packed

    def _pack(self, e: Emitter, quads: Sequence[Value], zero_point: Value | None) -> Value:
        words = [e.call(self.packs[0], vec(I16, 2 * self.lanes), quads[i : i + 2]) for i in (0, 2)]
        if zero_point is not None:
            words = [e.call(f"llvm.sadd.sat.v{2 * self.lanes}i16", word.type, [word, zero_point]) for word in words]
        return e.call(self.packs[1], self.bytes, words)

    def _unblock(self, e: Emitter, packed: Value, rows: int) -> list[Value]:
        """Each 128-bit block has a part of every row: the parts of one row come together."""
        if rows == 1:
            return [packed]
        unit = {2: I64, 4: I32}[rows]
        parts = e.b.bitcast(packed, vec(unit, packed.type.count * 8 // unit.width))
        blocks = self.vector_bytes // 16
        whole = e.shuffle(parts, [block * rows + row for row in range(rows) for block in range(blocks)])
        per_row = [range(row * blocks, (row + 1) * blocks) for row in range(rows)]
        return [e.b.bitcast(e.shuffle(whole, lanes), vec(I8, self.vector_bytes // rows)) for lanes in per_row]


@dataclass(frozen=True, repr=False)
class _X86At256(_X86):
    """32 bytes to a register."""

    name: str = "avx2"
    features: tuple[str, ...] = ("avx2", "fma")
    cpu: str = "x86-64-v3"
    vector_bytes: int = 32
    packs: tuple[str, str] = ("llvm.x86.avx2.packssdw", "llvm.x86.avx2.packuswb")
    convert: str = "llvm.x86.avx.cvt.ps2dq.256"

    @property
    def saturating(self) -> Isa:
        return _Avx2Saturating()


@dataclass(frozen=True, repr=False)
class _Avx2(_X86At256):
    """vpmaddwd on bytes widened to 16 bits: exact, where vpmaddubsw would saturate. Even and odd taps make a vector each."""

    def arrange(self, taps: NDArray[np.int8]) -> NDArray[np.int8]:
        pairs = np.stack([taps[..., 0::2], taps[..., 1::2]], axis=-3)
        return pairs.reshape(*taps.shape[:-2], self.vector_bytes)

    def load_weights(self, e: Emitter, pointer: Value, offset: Value | int) -> Any:
        words = vec(I16, 2 * self.lanes)
        half = self.vector_bytes // 2
        return [e.b.sext(e.load(pointer, vec(I8, half), e.add(offset, i * half), 16), words) for i in (0, 1)]

    def activations(self, e: Emitter, taps: Value) -> Any:
        words = vec(I16, 2 * self.lanes)
        even = e.b.bitcast(e.b.and_(taps, splat(self.sums, 0x00FF00FF)), words)
        return [even, e.b.lshr(e.b.bitcast(taps, words), splat(words, 8))]

    def dot(self, e: Emitter, acc: Value, activations: Any, weights: Any) -> Value:
        for u, s in zip(activations, weights, strict=True):
            acc = e.b.add(acc, e.call("llvm.x86.avx2.pmadd.wd", self.sums, [u, s]))
        return acc


@dataclass(frozen=True, repr=False)
class _Avx2Saturating(_X86At256):
    """vpmaddubsw, and vpmaddwd by ones: half of the multiplications, for weights whose pairs fit (fxq.runtime.jit.excess)."""

    def dot(self, e: Emitter, acc: Value, activations: Any, weights: Any) -> Value:
        return self.dots(e, acc, [activations], [weights])

    def dots(self, e: Emitter, acc: Value, activations: Sequence[Any], weights: Sequence[Any]) -> Value:
        words = vec(I16, 2 * self.lanes)
        pairs = [e.call("llvm.x86.avx2.pmadd.ub.sw", words, [u, s]) for u, s in zip(activations, weights, strict=True)]
        return e.b.add(acc, e.call("llvm.x86.avx2.pmadd.wd", self.sums, [reduce(e.b.add, pairs), splat(words, 1)]))


@dataclass(frozen=True, repr=False)
class _Avx512Vnni(_X86):
    """vpdpbusd on 64 bytes."""

    name: str = "avx512_vnni"
    features: tuple[str, ...] = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni")
    cpu: str = "host"
    vector_bytes: int = 64
    registers: int = 32
    packs: tuple[str, str] = ("llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packuswb.512")
    convert: str = "llvm.x86.avx512.mask.cvtps2dq.512"

    def dot(self, e: Emitter, acc: Value, activations: Any, weights: Any) -> Value:
        return e.call("llvm.x86.avx512.vpdpbusd.512", self.sums, [acc, activations, weights])

    def nibble(self, e: Emitter, words: Value, number: int) -> Value:
        """A permutation looks at the lowest four bits of each index."""
        shifted = e.b.lshr(words, splat(self.sums, 4 * number)) if number else words
        return e.call("llvm.x86.avx512.permvar.sf.512", self.reals, [_signed_nibbles(self.reals), shifted])

    def widened(self, e: Emitter, row: Value, lanes: NDArray[np.int64]) -> list[Raised]:
        """2^23 + a or 2^15 + a: the lowest byte of a lane, or the second, below the exponent of a number whose bits it counts."""
        taps = np.resize(lanes, (TAPS, self.lanes)).T.reshape(-1).tolist()
        words = e.b.bitcast(e.shuffle(row, taps), self.sums)
        return [self._raised(e, e.b.lshr(words, splat(self.sums, 16)) if j > 1 else words, 8 * (j % 2)) for j in range(len(lanes))]

    def _raised(self, e: Emitter, words: Value, shift: int) -> Raised:
        base = 2.0 ** (23 - shift)
        exponent = int(np.float32(base).view(np.int32))
        bits = e.b.or_(e.b.and_(words, splat(self.sums, 255 << shift)), splat(self.sums, exponent))
        return Raised(e.b.bitcast(bits, self.reals), base)

    def lookup(self, e: Emitter, table: Value, indices: Value) -> Value:
        count = indices.type.count
        if count == 1 or "avx512vbmi" not in _host_features():
            return super().lookup(e, table, indices)
        if count < self.vector_bytes:
            widened = e.shuffle(indices, [lane % count for lane in range(self.vector_bytes)])
            return e.shuffle(self.lookup(e, table, widened), range(count))
        quarters = [e.load(table, self.bytes, 64 * n) for n in range(4)]
        halves = [e.call("llvm.x86.avx512.vpermi2var.qi.512", self.bytes, [a, indices, b]) for a, b in (quarters[:2], quarters[2:])]
        upper = e.b.icmp_signed("<", indices, splat(self.bytes, 0))
        return e.b.select(upper, halves[1], halves[0])

    def rint(self, e: Emitter, values: Value) -> Value:
        if values.type.count != self.lanes:
            return super().rint(e, values)
        current_rounding, all_lanes = splat_scalar(I32, 4), splat_scalar(I16, -1)
        return e.call(self.convert, self.sums, [values, splat(self.sums, 0), all_lanes, current_rounding])


# best first
ISAS: tuple[Isa, ...] = (_Avx512Vnni(), _Avx2(), Isa())


def find_isa(name: str | None = None) -> Isa:
    """The ISA of that name, of FXQ_ISA, or the best one that this machine can run.

    Raises:
        ConfigError: there is none of that name, or the machine lacks what it needs.
    """
    wanted = name or os.environ.get("FXQ_ISA")
    if not wanted:
        return next(isa for isa in ISAS if isa.available)
    for isa in ISAS:
        if isa.name == wanted and isa.available:
            return isa
    raise ConfigError(
        "isa" if name else "FXQ_ISA",
        expected="one of " + ", ".join(isa.name for isa in ISAS if isa.available) + ", which this machine can run",
        found=wanted,
        remedy="name one of them, or none for the best",
    )


@cache
def _host_features() -> frozenset[str]:
    return frozenset(name for name, present in binding.get_host_cpu_features().items() if present)


@cache
def _signed_nibbles(reals: Type) -> Value:
    """f32 of each four bits in two's complement."""
    return ir.Constant(reals, [*range(8), *range(-8, 0)])


def clip_lanes(e: Emitter, values: Value, low: int, high: int) -> Value:
    """min(max(v, low), high) of i32 lanes."""
    name = f"v{values.type.count}i32"
    raised = e.call(f"llvm.smax.{name}", values.type, [values, splat(values.type, low)])
    return e.call(f"llvm.smin.{name}", values.type, [raised, splat(values.type, high)])


def splat_scalar(type: Type, value: int) -> Value:
    """A scalar constant."""
    return type(value)
