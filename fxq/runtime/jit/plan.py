"""plan(region, values) → Program: first who needs which borders and who writes into whose buffer, then step after step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fxq.graph import functional, movement
from fxq.runtime.jit.constants import ConstantPool
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernels.copy import plan_copy
from fxq.runtime.jit.moves import concatenation
from fxq.runtime.jit.planner import Home, Planner, Refused, Site, Unplannable
from fxq.runtime.jit.program import Program
from fxq.runtime.jit.steps import StepRow, frame_of, row_of
from fxq.runtime.jit.views import View, row_major
from fxq.runtime.region import Region, Step

# why a step without elements is not compiled
NOTHING = "computes nothing"

_DTYPES = (torch.float32, torch.uint8, torch.int8, torch.bool)

# results of these are some channels of their operand, or all of it, so that a border around one is a border around the other
_SAME_PIXELS = (movement.chunk, movement.split, movement.getitem, movement.contiguous, movement.identity, movement.dropout)


def plan(region: Region, values: Mapping[int, Any], isa: Isa, constants: ConstantPool | None = None) -> Program:
    """The program of a region for tensors of these shapes.

    Args:
        values: all values of one run of the region on tensors with the shapes, strides and dtypes to plan for.
        constants: those of programs that were planned for other shapes.

    Raises:
        Refused: steps have no kernel for these shapes.
    """
    planner = Planner(region, values, isa, constants or ConstantPool())
    _each_step(planner, _check)
    _assign_homes(planner)
    _find_outlets(planner)
    _prefer_orders(planner)
    _demand_borders(planner)
    for value in range(region.inputs):
        if value in planner.readers:
            _enter(planner, value)
    _each_step(planner, _plan_step)
    return planner.program([_leave(planner, number, value) for number, value in enumerate(region.outputs)])


def _each_step(planner: Planner, visit: Callable[[Site], None]) -> None:
    """visit(site) for each step that makes a tensor. All are visited; then Refused is raised if some were unplannable."""
    reasons: dict[int, str] = {}
    for number in range(len(planner.region.steps)):
        if planner.is_tensor(planner.region.inputs + number) and number not in planner.done:
            try:
                visit(Site(planner, number))
            except Unplannable as objection:
                reasons[number] = str(objection)
    if reasons:
        raise Refused(reasons)


def _check(site: Site) -> None:
    """Kernels take a batch of something that they know, some of them also vectors; float ones no other floats than they are for."""
    planner, row = site.planner, _row(site.step)
    operands = [value for value in site.step.reads if planner.is_tensor(value)]
    for kind in map(planner.kind, (*operands, site.value)):
        if 0 in kind.shape:
            raise Unplannable(NOTHING)
        if len(kind.shape) < 2 - row.vectors:
            raise Unplannable(f"a value of shape {kind.shape} is no batch")
    floats = site.operands if row.floats or site.step.function is functional.quantize else ()
    for value in operands:
        if planner.kind(value).dtype not in (_DTYPES if value not in floats else (torch.float32,)):
            raise Unplannable(f"reads {planner.kind(value).dtype}")
    if operands and operands[0] == site.step.reads[0]:
        frame_of(site.step, planner.kind(operands[0]))


def _plan_step(site: Site) -> None:
    try:
        _row(site.step).plan(site)
    except Unplannable:
        site.planner.place(site.value)  # so that steps behind it can be asked too
        raise


def _row(step: Step) -> StepRow:
    row = row_of(step)
    if row is None:
        raise Unplannable("has no kernel")
    return row


def _assign_homes(planner: Planner) -> None:
    """Operands of a cat along the channels are written into its buffer; the last cat of an operand gets it."""
    region = planner.region
    for number, step in reversed(list(enumerate(region.steps))):
        value = region.inputs + number
        if step.function is not movement.cat:
            continue
        cat, first = concatenation(step, len(planner.kind(value).shape)), 0
        for operand in cat.operands:
            if cat.dim == 1 and operand not in planner.homes and cat.operands.count(operand) == 1 and _is_written(region, operand):
                planner.homes[operand] = Home(value, first)
            first += planner.kind(operand).shape[cat.dim]


def _is_written(region: Region, value: int) -> bool:
    """Whether a kernel makes the value, and can write it anywhere."""
    if value < region.inputs:
        return False
    row = row_of(region.steps[value - region.inputs])
    return row is not None and row.writes


def _find_outlets(planner: Planner) -> None:
    """Results can be written where the caller reads them: floats, and bytes that no step reads, which might read past the end.

    int8 has to be turned back first.
    """
    region = planner.region
    inside = {operand for step in region.steps for operand in step.reads} | {home.value for home in planner.homes.values()}
    for number, value in enumerate(region.outputs):
        kind = planner.kind(value)
        if (value not in inside or kind.element > 1) and value not in planner.homes and not kind.signed:
            planner.outlets[value] = number


def _prefer_orders(planner: Planner) -> None:
    """From the readers to what they read: the memory order that a value is read in, for what can be written in any."""
    region = planner.region
    for number, step in reversed(list(enumerate(region.steps))):
        value, row = region.inputs + number, row_of(step)
        for operand in filter(planner.is_tensor, step.reads):
            shape = planner.kind(operand).shape
            order = row.order(len(shape)) if row is not None and row.order else None
            if order is None and planner.is_tensor(value) and planner.kind(value).shape == shape:
                order = planner.orders.get(value)
            if order is not None:
                planner.orders.setdefault(operand, order)


def _demand_borders(planner: Planner) -> None:
    """From the readers to what they read: a border around a part is one around the whole."""
    region = planner.region
    for number, step in reversed(list(enumerate(region.steps))):
        value = region.inputs + number
        if value in planner.homes and value in planner.frames:
            home = planner.homes[value].value
            planner.frames[home] = planner.frames[value].joined(planner.frames.get(home))
        if not planner.is_tensor(value) or not step.reads:
            continue
        operand = step.reads[0]
        if planner.is_tensor(operand):
            _demand(planner, step, value, operand)


def _demand(planner: Planner, step: Step, value: int, operand: int) -> None:
    frame = frame_of(step, planner.kind(operand))
    if step.function in _SAME_PIXELS and planner.kind(operand).shape[2:] == planner.kind(value).shape[2:]:
        frame = planner.frames.get(value)
    if frame is not None:
        planner.frames[operand] = frame.joined(planner.frames.get(operand))


def _enter(planner: Planner, value: int) -> None:
    """Float inputs stay where they are, and masks; bytes are copied to where kernels may read past them, int8 as q + 128."""
    outside = planner.add_input(value)
    kind = planner.kind(value)
    if kind.dtype in (torch.float32, torch.bool):
        planner.views[value] = outside
        return
    inside = planner.place(value, planner.orders.get(value, outside.memory_order))
    planned = plan_copy(outside, inside, planner.isa, flip=kind.signed)
    planner.call(f"input {value}", planned, x=outside, y=inside)


def _leave(planner: Planner, number: int, value: int) -> View:
    """The result, in memory that the caller gives, by a copy if it is not there yet: floats in row-major order, bytes in their own."""
    kind, inside = planner.kind(value), planner.views[value]
    if planner.is_output(inside, number):
        return inside
    order = row_major(len(kind.shape)) if kind.dtype == torch.float32 else inside.memory_order
    outside = planner.add_output(number, value, order)
    planned = plan_copy(inside, outside, planner.isa, flip=kind.signed)
    planner.call(f"output {number}", planned, x=inside, y=outside)
    return outside
