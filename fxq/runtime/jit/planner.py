"""Region and shapes → Program: where each value lies, which kernel computes it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.runtime.jit.arena import Lifetime, plan_arena
from fxq.runtime.jit.constants import ConstantPool
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Planned
from fxq.runtime.jit.kernels.copy import plan_border, plan_copy
from fxq.runtime.jit.program import Call, Pointer, Program
from fxq.runtime.jit.views import SLACK, Border, Buffer, View, channels_last, padded_elements, row_major, strides_in
from fxq.runtime.region import Region, Step, Value


class Unplannable(Exception):
    """A step has no kernel for these shapes; the message says why."""


class Refused(Exception):
    """Some steps of a region have no kernel for these shapes.

    Attributes:
        reasons: number of each such step → why.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons


@dataclass(frozen=True, eq=False)
class Kind:
    """What planning has to know of a value before anything is placed.

    Attributes:
        shape, dtype: of its tensor.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def element(self) -> int:
        """Bytes of one."""
        return 4 if self.dtype == torch.float32 else 1

    @property
    def signed(self) -> bool:
        """Whether programs store it with 128 added."""
        return self.dtype == torch.int8


@dataclass(frozen=True)
class Frame:
    """The border that readers of a value need around its pixels, and the byte in it."""

    border: Border
    byte: int

    def joined(self, other: Frame | None) -> Frame:
        """Wide enough for both."""
        if other is None:
            return self
        pairs = zip(self.border, other.border, strict=True)
        return Frame(tuple((max(a[0], b[0]), max(a[1], b[1])) for a, b in pairs), self.byte)


@dataclass(frozen=True)
class Home:
    """A part of another value's buffer: the value, and the channel at which the part starts."""

    value: int
    channel: int


@dataclass(frozen=True, eq=False)
class KernelCall:
    """A planned call and the tensors that it is for, by operand of its kernel."""

    planned: Planned
    tensors: Mapping[str, View]


@dataclass(eq=False)
class Planner:
    """The state of planning: values placed so far, and the calls that compute them.

    Attributes:
        region: what is planned.
        values: every value of one run on tensors of these shapes: tensors, sizes.
        isa: what kernels are written for.
        constants: those of all programs of the region.
        frames: value → the border that it is placed with.
        orders: value → the memory order that its readers like best.
        homes: value → the value whose buffer it is a part of, and its first channel there.
        outlets: value → which result it is, for those that nothing else reads: they are written where the caller reads them.
        views: value → where it lies.
        done: numbers of steps that are computed together with an earlier one.
    """

    region: Region
    values: Mapping[int, Any]
    isa: Isa
    constants: ConstantPool = field(default_factory=ConstantPool)
    frames: dict[int, Frame] = field(default_factory=dict)
    orders: dict[int, tuple[int, ...]] = field(default_factory=dict)
    homes: dict[int, Home] = field(default_factory=dict)
    outlets: dict[int, int] = field(default_factory=dict)
    views: dict[int, View] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    _buffers: list[Buffer] = field(default_factory=list)
    _shared: dict[Hashable, tuple[View, ...]] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)
    _blocks: list[NDArray[np.uint8]] = field(default_factory=list)
    _stages: list[list[Call]] = field(default_factory=list)

    def kind(self, value: int) -> Kind:
        """Shape and dtype of a tensor value."""
        tensor = self.values[value]
        return Kind(tuple(tensor.shape), tensor.dtype)

    def is_tensor(self, value: int) -> bool:
        """Whether the value is a tensor, not a size."""
        return isinstance(self.values[value], Tensor)

    @cached_property
    def readers(self) -> Mapping[int, tuple[int, ...]]:
        """Value → numbers of the steps that read its elements; who asks for its size is none."""
        readers: dict[int, tuple[int, ...]] = {}
        for number, step in enumerate(self.region.steps):
            if self.is_tensor(self.region.inputs + number):
                readers.update((value, (*readers.get(value, ()), number)) for value in step.reads)
        return readers

    # ---- places

    def add_input(self, value: int) -> View:
        """A tensor that the caller gives, with its own strides."""
        tensor = self.values[value]
        kind = self.kind(value)
        reach = 1 + sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
        self._buffers.append(Buffer(f"input {value}", reach * kind.element, "input", value))
        return View(len(self._buffers) - 1, 0, kind.shape, tuple(tensor.stride()), kind.element)

    def add_output(self, number: int, value: int, order: tuple[int, ...]) -> View:
        """A result that the caller allocates, dense in that memory order."""
        kind = self.kind(value)
        count = padded_elements(kind.shape, ()) if len(kind.shape) > 1 else kind.shape[0]
        self._buffers.append(Buffer(f"output {number}", count * kind.element, "output", number))
        return View(len(self._buffers) - 1, 0, kind.shape, strides_in(order, kind.shape), kind.element)

    def place(self, value: int, order: tuple[int, ...] | None = None) -> View:
        """Where the step that makes the value writes it: its part of another value's buffer, or one of its own, channels last."""
        if value in self.views:
            return self.views[value]
        home = self.homes.get(value)
        if home is None:
            self.views[value] = self.allocate(value, order)
        else:
            self.views[value] = self.place(home.value).part(1, home.channel, self.kind(value).shape[1])
        return self.views[value]

    def allocate(self, value: int, order: tuple[int, ...] | None = None) -> View:
        """A buffer of the value's own, channels last by default; only then does it have the border that its readers need.

        The call that fills the border goes with the next stage. Readers that need one copy what lies in another order.
        """
        kind, last = self.kind(value), channels_last(len(self.kind(value).shape))
        if value in self.outlets and (kind.element == 1 or _alike(order or last, row_major(len(kind.shape)), kind.shape, None)):
            return self.add_output(self.outlets.pop(value), value, order or last)
        frame = self.frames.get(value) if order is None or _alike(order, last, kind.shape, self.frames.get(value)) else None
        border = frame.border if frame else ()
        strides = strides_in(last if frame or order is None else order, kind.shape, border)
        offset = sum(before * strides[dim + 2] for dim, (before, _) in enumerate(border)) * kind.element
        nbytes = padded_elements(kind.shape, border) * kind.element + SLACK if len(kind.shape) > 1 else kind.shape[0] * kind.element + SLACK
        self._buffers.append(Buffer(self._name(value), nbytes))
        view = View(len(self._buffers) - 1, offset, kind.shape, strides, kind.element, framed=frame is not None)
        if frame and any(any(pair) for pair in border):
            planned = plan_border(view.layout(last), border, frame.byte, self.isa)
            self._stages.append([self._call(self._name(value), planned, {"y": view}, view)])
        return view

    def is_output(self, view: View, number: int) -> bool:
        """Whether it lies in the result of that number, which it then is."""
        buffer = self._buffers[view.buffer]
        return buffer.place == "output" and buffer.number == number

    def scratch(self, step: str, images: int, nbytes: int) -> View:
        """Bytes that one call of a step leaves for another, so many for each image."""
        self._buffers.append(Buffer(step, images * nbytes))
        return View(len(self._buffers) - 1, 0, (images, nbytes), (nbytes, 1))

    def room(self, step: str, shape: tuple[int, ...]) -> View:
        """Bytes of a step's own for a batch of images, channels last, as `allocate` places values."""
        self._buffers.append(Buffer(step, padded_elements(shape, ()) + SLACK))
        return View(len(self._buffers) - 1, 0, shape, strides_in(channels_last(len(shape)), shape))

    def _name(self, value: int) -> str:
        return f"input {value}" if value < self.region.inputs else self.region.steps[value - self.region.inputs].name

    # ---- calls

    def call(self, step: str, planned: Planned, **tensors: View) -> None:
        """Appends a call; operands of the kernel that are not among the tensors are its constants, in order."""
        self._stages.append([self._call(step, planned, tensors, tensors["y"])])

    def call_together(self, step: str, calls: Sequence[KernelCall]) -> None:
        """Appends calls that may run in any order: each writes its own part of the result."""
        self._stages.append([self._call(step, call.planned, call.tensors, call.tensors["y"]) for call in calls])

    def _call(self, step: str, planned: Planned, tensors: Mapping[str, View], result: View) -> Call:
        blocks = tuple(map(self.constants.keep, planned.constants))
        constants = iter(blocks)
        pointers = tuple(
            Pointer("buffer", tensors[name].buffer, tensors[name].offset) if name in tensors else self._constant(next(constants))
            for name in planned.kernel.operands
        )
        return Call(step, replace(planned, constants=blocks), pointers, result.batched.shape[0], result)

    def _constant(self, block: NDArray[np.uint8]) -> Pointer:
        """Equal constants are stored once."""
        if id(block) not in self._numbers:
            self._numbers[id(block)] = len(self._blocks)
            self._blocks.append(block)
        return Pointer("constant", self._numbers[id(block)])

    def once(self, key: Hashable, make: Callable[[], tuple[View, ...]]) -> tuple[View, ...]:
        """What make() gives, whose calls are appended for the first step that asks for that key; later ones read the same."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def copy(self, step: str, source: View, target: View) -> None:
        """The elements of one view to another one of the same shape."""
        self.call(step, plan_copy(source, target, self.isa), x=source, y=target)

    # ---- the result

    def program(self, outputs: Sequence[View]) -> Program:
        """All that was planned."""
        stages = tuple(_joined(self._stages))
        buffers = tuple(self._buffers)
        draft = Program(self.region.name, buffers, (0,) * len(buffers), 0, tuple(self._blocks), stages, tuple(outputs))
        arena = {number: span for number, span in draft.uses.items() if buffers[number].place == "arena"}
        placed = plan_arena([Lifetime(buffers[number].nbytes, span.first, span.end - 1) for number, span in arena.items()])
        offsets = dict(zip(arena, placed.offsets, strict=True))
        all_offsets = tuple(offsets.get(number, 0) for number in range(len(buffers)))
        return Program(self.region.name, buffers, all_offsets, placed.nbytes, tuple(self._blocks), stages, tuple(outputs))


def _alike(order: tuple[int, ...], other: tuple[int, ...], shape: tuple[int, ...], frame: Frame | None) -> bool:
    """Whether elements lie in the same places in both memory orders: dimensions of length 1 may come anywhere."""
    border = frame.border if frame else ()
    strides = zip(shape, strides_in(order, shape, border), strides_in(other, shape, border), strict=True)
    return all(length == 1 or a == b for length, a, b in strides)


def _joined(stages: Sequence[Sequence[Call]]) -> list[tuple[Call, ...]]:
    """A border is filled beside the call that comes next: both write parts of one buffer, and neither reads what the other writes."""
    joined: list[tuple[Call, ...]] = []
    waiting: tuple[Call, ...] = ()
    for stage in stages:
        waiting = (*waiting, *stage)
        if stage[-1].planned.kernel.name != "border":
            joined.append(waiting)
            waiting = ()
    return [*joined, waiting] if waiting else joined


@dataclass(frozen=True)
class Site:
    """One step in planning: its op, its values, and the planner."""

    planner: Planner
    number: int

    @property
    def step(self) -> Step:
        """What is planned."""
        return self.planner.region.steps[self.number]

    @property
    def value(self) -> int:
        """What the step makes."""
        return self.planner.region.inputs + self.number

    @property
    def kind(self) -> Kind:
        """Shape and dtype of the result."""
        return self.planner.kind(self.value)

    @property
    def is_result(self) -> bool:
        """Whether the caller gets what it makes."""
        return self.value in self.planner.region.outputs

    def operand(self, position: int) -> int:
        """The value of a positional argument."""
        argument = self.step.args[position]
        if not isinstance(argument, Value):
            raise Unplannable("reads a constant where it takes values")
        return argument.index

    def view(self, position: int) -> View:
        """Where that operand lies."""
        return self.planner.views[self.operand(position)]

    @property
    def readers(self) -> list[Site]:
        """The steps that read the elements of what it makes."""
        return [Site(self.planner, number) for number in self.planner.readers.get(self.value, ())]

    @property
    def operands(self) -> tuple[int, ...]:
        """All values that it takes by position, sizes among them."""
        return tuple(argument.index for argument in self.step.args if isinstance(argument, Value))

    @property
    def signed(self) -> tuple[bool, ...]:
        """Whether each tensor operand is int8."""
        return tuple(self.planner.kind(value).signed for value in self.operands if self.planner.is_tensor(value))

    def image(self, position: int) -> View:
        """The operand with its channels innermost, and in the border that its readers need; by a copy where it lies otherwise."""
        order = channels_last(len(self.view(position).shape))
        lacks_border = self.operand(position) in self.planner.frames and not self.view(position).framed
        return self.relaid(position, order) if lacks_border else self.in_order(position, order)

    def in_order(self, position: int, order: tuple[int, ...]) -> View:
        """The operand with the last dimension of that order innermost, by a copy where it lies otherwise."""
        view = self.view(position)
        if view.strides[order[-1]] == 1 or view.shape[order[-1]] == 1:
            return view
        return self.relaid(position, order)

    def relaid(self, position: int, order: tuple[int, ...]) -> View:
        """A copy of the operand, dense in that memory order."""
        return self.dense(self.operand(position), order)

    def dense(self, value: int, order: tuple[int, ...]) -> View:
        """A copy of a value, dense in that memory order."""
        copied = self.planner.allocate(value, order)
        self.planner.copy(self.step.name, self.planner.views[value], copied)
        return copied

    def call(self, planned: Planned, **tensors: View) -> None:
        """Appends a call that belongs to this step."""
        self.planner.call(self.step.name, planned, **tensors)
