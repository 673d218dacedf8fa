"""Attention as machine code, in float32: any number of images, queries and keys; tensors lie where views of projections have them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from fxq.runtime.jit.dynamic import Buffers
from fxq.runtime.jit.execute import CompiledProgram, unavailable
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.kernels.attention import Attention, Heads, Masked
from fxq.runtime.jit.kernels.keys import FLOAT, GEOMETRY_BYTES, Geometry, PackKeys, Steps, packed_bytes
from fxq.runtime.jit.program import Program

# shapes and strides for which what a call needs is kept
_KEPT = 64


def compiled_attention(shape: Heads) -> CompiledAttention | None:
    """The code for such heads; None where LLVM has no target."""
    return None if unavailable() is not None else _compiled(shape, find_isa())


@cache
def _compiled(shape: Heads, isa: Isa) -> CompiledAttention:
    return CompiledAttention(shape, isa)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What is needed for tensors of certain shapes and strides: it is found faster than made."""

    program: CompiledProgram
    geometry: Tensor


class CompiledAttention:
    """A program for each power of two of images, queries and keys; they share their code. Any number of threads may call at once."""

    def __init__(self, shape: Heads, isa: Isa) -> None:
        self._shape, self._isa = shape, isa
        self._programs: dict[tuple[int, ...], CompiledProgram] = {}
        self._prepared: OrderedDict[Hashable, _Prepared] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        """f32 [N, heads, L, outputs], where [N, L, heads, outputs] is contiguous.

        Args:
            query, keys, values: f32 [N, heads, L or S, features], without gradients.
            mask: what the heads' shape says, as it can be broadcast to [N, heads, L, S].
        """
        images, heads, count, _ = query.shape
        y = torch.empty(images, count, heads, self._shape.outputs).transpose(1, 2)
        given = [query, keys, values] if mask is None else [query, keys, values, mask.expand(images, heads, count, keys.shape[2])]
        tensors = [_with_adjacent_features(tensor) for tensor in given]
        if y.numel():
            prepared = self._prepared_for([*tensors, y], scale)
            prepared.program.run_rows([prepared.geometry, *tensors], [y], images)
        return y

    @property
    def programs(self) -> tuple[Program, ...]:
        """The one for the most images, queries and keys so far; none before the first call."""
        return tuple(self._programs[capacity].program for capacity in sorted(self._programs)[-1:])

    def _prepared_for(self, tensors: Sequence[Tensor], scale: float) -> _Prepared:
        key = (scale, *((tensor.shape, tensor.stride()) for tensor in tensors))
        found = self._prepared.get(key)
        if found is None:
            with self._lock:
                found = self._prepared[key] = self._prepare(tensors, scale)
                while len(self._prepared) > _KEPT:
                    self._prepared.popitem(last=False)
        return found

    def _prepare(self, tensors: Sequence[Tensor], scale: float) -> _Prepared:
        images, queries, keys = len(tensors[0]), tensors[0].shape[2], tensors[1].shape[2]
        names = ("x", "keys", "values", *(("mask",) if self._shape.mask else ()), "y")
        steps = {name: steps_of(tensor) for name, tensor in zip(names, tensors, strict=True)}
        capacity = tuple(1 << max(count - 1, 0).bit_length() for count in (images, queries, keys))
        if capacity not in self._programs:
            self._programs[capacity] = CompiledProgram(self.plan(*capacity), [torch.float32])
        return _Prepared(self._programs[capacity], torch.from_numpy(Geometry(queries, keys, scale, steps).words))

    def plan(self, images: int, queries: int, keys: int) -> Program:
        """For at most as many of each."""
        shape, isa, buffers = self._shape, self._isa, Buffers(images)
        shared = shape.heads // shape.group
        geometry = buffers.add("geometry", GEOMETRY_BYTES, "input")
        x, k, v, *mask = (buffers.add(name, 0, "input") for name in ("x", "keys", "values", *(("mask",) if shape.mask else ())))
        packed = buffers.add("packed", shared * packed_bytes(keys, shape.features, isa))
        y = buffers.add("y", FLOAT * queries * shape.heads * shape.outputs, "output")
        return buffers.program(
            "attention",
            (),
            [
                buffers.call(PackKeys(isa, shared, shape.features), [geometry, k, packed]),
                buffers.call(Attention(isa, shape), [geometry, x, packed, v, *mask, y], shape.macs(queries, keys)),
            ],
        )


def _with_adjacent_features(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def steps_of(tensor: Tensor) -> Steps:
    """Of a tensor of four dimensions."""
    size = tensor.element_size()
    return Steps(*(stride * size for stride in tensor.stride()[:3]))


def mask_kind(mask: Tensor | None) -> Masked:
    """What the heads' shape says of such a mask."""
    return "" if mask is None else "bool" if mask.dtype == torch.bool else "float"
