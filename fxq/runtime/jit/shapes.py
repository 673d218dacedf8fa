"""What planning has to know of the values of a region: sizes of tensors, and the numbers computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fxq.runtime.jit.steps import StepRow, row_of
from fxq.runtime.region import Region, Step


def trace_shapes(region: Region, inputs: Sequence[Tensor]) -> Mapping[int, Any]:
    """Every value of one run of the region: tensors without data, where all steps can do without.

    Integer ops look things up in their constants, and are run.
    """
    rows = [_row(step) for step in region.steps]
    if any(isinstance(step.function, nn.Module) and row.shape is None for step, row in zip(region.steps, rows, strict=True)):
        return region.trace(inputs)
    values: dict[int, Any] = {number: _without_data(x.shape, x.stride(), x.dtype) for number, x in enumerate(inputs)}
    for number, (step, row) in enumerate(zip(region.steps, rows, strict=True)):
        value = step.run(values) if row.shape is None else torch.empty(row.shape(step, values), device="meta")
        values[region.inputs + number] = value
    return values


def _row(step: Step) -> StepRow:
    row = row_of(step)
    assert row is not None, f"{step.name} is in a region, but has no row in STEPS"
    return row


def _without_data(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(shape, strides, dtype=dtype, device="meta")
