"""What planning has to know of the values of a region: sizes of tensors, and the numbers computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from fxq.runtime.jit.steps import Shape, row_of
from fxq.runtime.region import Region, Step


def trace_shapes(region: Region, inputs: Sequence[Tensor]) -> Mapping[int, Any]:
    """Every value of one run of the region: tensors without data, where all steps can do without.

    Integer ops look things up in their constants, and are run.
    """
    if any(isinstance(step.function, nn.Module) and _shape(step) is None for step in region.steps):
        return region.trace(inputs)
    values: dict[int, Any] = {number: _without_data(x) for number, x in enumerate(inputs)}
    for number, step in enumerate(region.steps):
        shape = _shape(step)
        values[region.inputs + number] = _run(step, values) if shape is None else torch.empty(shape(step, values), device="meta")
    return values


def _run(step: Step, values: Mapping[int, Any]) -> Any:
    """The step, constants of its own also without data."""
    args, kwargs = tree_map_only(Tensor, _without_data, (step.args, dict(step.kwargs)))
    return replace(step, args=args, kwargs=kwargs).run(values)


def _shape(step: Step) -> Shape | None:
    row = row_of(step)
    return None if row is None else row.shape


def _without_data(x: Tensor) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
