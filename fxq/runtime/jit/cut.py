"""A region cut around steps that have no kernel: sections that are compiled, and sections of integer ops."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from fxq.runtime.region import Region, Value, fill_in


@dataclass(frozen=True, eq=False)
class Section:
    """Some steps of a region, as a region of its own.

    Attributes:
        region: the steps, and the sizes that they read.
        is_refused: whether they have no kernel.
        reads: values of the whole region that are its inputs.
        makes: values of the whole region that are its outputs.
        frees: values of the whole region that no later section reads.
    """

    region: Region
    is_refused: bool
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    frees: tuple[int, ...]


def cut(region: Region, values: Mapping[int, Any], refused: Set[int]) -> tuple[Section, ...]:
    """Sections in the order in which they run: as few as there can be, since a step is in the first one that has all it reads.

    Args:
        values: of one run: tensors, sizes.
        refused: numbers of steps that have no kernel.
    """
    levels = _levels(region, values, refused)
    made = {level: [value for value in levels if value >= region.inputs and levels[value] == level] for level in sorted({*levels.values()})}
    steps = {level: _with_sizes(region, values, members) for level, members in made.items() if members}
    reads = {level: _reads(region, values, inside) for level, inside in steps.items()}
    last = {value: level for level in reads for value in reads[level]}
    sections = []
    for level, inside in steps.items():
        makes = tuple(value for value in made[level] if value in region.outputs or value in last)
        frees = tuple(value for value in reads[level] if last[value] == level and value not in region.outputs)
        part = _part(region, inside, reads[level], makes)
        sections.append(Section(part, bool(level % 2), reads[level], makes, frees))
    return tuple(sections)


def _levels(region: Region, values: Mapping[int, Any], refused: Set[int]) -> dict[int, int]:
    """Tensor → how often the way to it changes, at most, between what is compiled (even) and what is not (odd)."""
    levels = dict.fromkeys(range(region.inputs), 0)
    for number, step in enumerate(region.steps):
        level = max((levels[read] for read in step.reads), default=0)
        is_tensor = isinstance(values[region.inputs + number], Tensor)
        levels[region.inputs + number] = level + (is_tensor and level % 2 != (number in refused))
    return {value: level for value, level in levels.items() if isinstance(values[value], Tensor)}


def _with_sizes(region: Region, values: Mapping[int, Any], members: list[int]) -> list[int]:
    """Values of a section, and before each one the sizes that it reads: several sections may compute the same one."""
    found: dict[int, None] = {}
    for value in members:
        sizes = [read for read in region.steps[value - region.inputs].reads if not isinstance(values[read], Tensor)]
        found.update(dict.fromkeys([*_with_sizes(region, values, sizes), value]))
    return list(found)


def _reads(region: Region, values: Mapping[int, Any], inside: list[int]) -> tuple[int, ...]:
    """Tensors that come from outside, in the order of their first reader."""
    reads = (read for value in inside for read in region.steps[value - region.inputs].reads)
    return tuple(dict.fromkeys(read for read in reads if read not in inside and isinstance(values[read], Tensor)))


def _part(region: Region, inside: list[int], reads: tuple[int, ...], makes: tuple[int, ...]) -> Region:
    numbers = {value: Value(number) for number, value in enumerate([*reads, *inside])}
    old = [region.steps[value - region.inputs] for value in inside]
    steps = tuple(replace(step, args=fill_in(step.args, numbers), kwargs=fill_in(step.kwargs, numbers)) for step in old)
    return Region(region.name, len(reads), steps, tuple(numbers[value].index for value in makes))
