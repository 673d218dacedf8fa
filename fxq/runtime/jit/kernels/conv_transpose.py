"""ConvTranspose → convolutions with stride 1: one for the outputs of each phase, those whose places have one remainder by the stride.

Output o takes tap k of input i where o + padding = i·stride + dilation·k. For the outputs o = r + stride·j of a phase r these are the taps
with (r + padding − dilation·k) divisible by the stride, and i = j + (r + padding − dilation·k)/stride: a convolution of its own, whose taps
keep one distance. No product is with a zero that stride put between inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd

import torch
from torch import Tensor

from fxq.runtime.integer.conv import Conv, ConvGeometry
from fxq.runtime.integer.conv_transpose import ConvTranspose
from fxq.runtime.integer.outputs import PackedWeights
from fxq.runtime.jit.views import Border


@dataclass(frozen=True)
class _Phase:
    """Outputs first, first + stride, ... of one dimension.

    Attributes:
        count: how many outputs.
        taps: of the kernel, in the order of the inputs that they meet; none where no input reaches the phase.
        origin: the input that the first tap of the first output meets; may lie outside.
        gap: from the input of one tap to that of the next.
    """

    first: int
    count: int
    taps: tuple[int, ...]
    origin: int
    gap: int

    @property
    def last(self) -> int:
        """The input that the last tap of the last output meets."""
        return self.origin + self.count - 1 + (max(1, len(self.taps)) - 1) * self.gap


@dataclass(frozen=True, eq=False)
class PhaseConv:
    """One phase of all dimensions.

    Attributes:
        op: the convolution; its padding before may be negative, its padding after is not used.
        outputs: which outputs it computes, one slice for each spatial dimension.
    """

    op: Conv
    outputs: tuple[slice, ...]


def transposed_border(op: ConvTranspose, size: Sequence[int]) -> Border:
    """The border of zero points that all phases together read around an input of that size."""
    return tuple(
        (max(0, *(-phase.origin for phase in along)), max(0, *(phase.last - length + 1 for phase in along)))
        for along, length in zip(_phases(op, size), size, strict=True)
    )


def phase_convs(op: ConvTranspose, size: Sequence[int]) -> list[PhaseConv]:
    """All outputs, each in one phase."""
    return [PhaseConv(_conv(op, phases), _outputs(op, phases)) for phases in product(*_phases(op, size))]


def _phases(op: ConvTranspose, size: Sequence[int]) -> list[list[_Phase]]:
    """For each dimension, those that have outputs."""
    kernel = op.weight.shape[2:]
    counts = op.geometry.counts(size, kernel)
    return [[_phase(op, dim, first, counts[dim]) for first in range(min(op.geometry.stride[dim], counts[dim]))] for dim in range(len(size))]


def _phase(op: ConvTranspose, dim: int, first: int, outputs: int) -> _Phase:
    geometry = op.geometry
    stride, dilation = geometry.stride[dim], geometry.dilation[dim]
    start = first + geometry.padding[dim]
    taps = tuple(k for k in reversed(range(op.weight.shape[2 + dim])) if (start - dilation * k) % stride == 0)
    origin = (start - dilation * taps[0]) // stride if taps else 0
    return _Phase(first, -(-(outputs - first) // stride), taps, origin, dilation // gcd(stride, dilation))


def _conv(op: ConvTranspose, phases: Sequence[_Phase]) -> Conv:
    """Where no input reaches a phase, one tap of zeros stands for none."""
    weight = _by_outputs(op.weight, op.geometry.groups)
    for dim, phase in enumerate(phases, 2):
        weight = weight[(slice(None),) * dim + (list(phase.taps),)] if phase.taps else torch.zeros_like(weight.narrow(dim, 0, 1))
    bias = op.bias.to(torch.int64) - op.input_zero_point * weight.flatten(1).sum(1, dtype=torch.int64)
    geometry = ConvGeometry(
        stride=(1,) * len(phases),
        padding=tuple((-phase.origin, 0) for phase in phases),
        dilation=tuple(phase.gap for phase in phases),
        groups=op.geometry.groups,
    )
    packed = PackedWeights(weight, bias.to(torch.int32), op.multiplier)
    return Conv(packed, geometry, op.input_zero_point, op.output)


def _by_outputs(weight: Tensor, groups: int) -> Tensor:
    """[I, O/groups, *kernel] → [O, I/groups, *kernel]"""
    grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return grouped.transpose(1, 2).reshape(groups * weight.shape[1], weight.shape[0] // groups, *weight.shape[2:])


def _outputs(op: ConvTranspose, phases: Sequence[_Phase]) -> tuple[slice, ...]:
    return tuple(slice(phase.first, None, step) for phase, step in zip(phases, op.geometry.stride, strict=True))
