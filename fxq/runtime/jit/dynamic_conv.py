"""Convolutions of what is quantized as it arrives as machine code: the program of a zero point that is known, and what another one adds."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fxq.runtime.integer.conv import Conv, ConvGeometry
from fxq.runtime.integer.matmul import EXACT_FLOAT32
from fxq.runtime.integer.outputs import FloatOutput, PackedWeights
from fxq.runtime.jit.execute import unavailable
from fxq.runtime.jit.program import Program
from fxq.runtime.jit.region import CompiledRegion
from fxq.runtime.region import Region, Step, Value

# the zero point of the program: sums with it are as small as they can be for all others
_MIDDLE = 128


def compile_conv(weight: Tensor, geometry: ConvGeometry) -> CompiledConv | None:
    """Machine code for this CPU; None where LLVM has no target, or float32 does not hold all sums."""
    reach = _MIDDLE * weight.flatten(1).to(torch.int64).abs().sum(1)
    if not reach.numel() or int(reach.max()) >= EXACT_FLOAT32 or unavailable() is not None:
        return None
    return CompiledConv(weight, geometry)


class CompiledConv:
    """Σ (x − z)·w = Σ (x − 128)·w − (z − 128)·Σw: integers that float32 holds, so that only the difference is rounded."""

    def __init__(self, weight: Tensor, geometry: ConvGeometry) -> None:
        sums = weight.flatten(1).sum(1, dtype=torch.int32)
        bare = replace(geometry, padding=((0, 0),) * geometry.rank, padding_mode="zeros")
        op = Conv(PackedWeights(weight, -_MIDDLE * sums, torch.ones(len(weight))), bare, 0, FloatOutput())
        self._region = CompiledRegion(Region("conv", 1, (Step("conv", op, (Value(0),), {}),), (1,)))
        self._per_channel = (-1, *[1] * geometry.rank)
        self._sums = sums.to(torch.float32).view(self._per_channel)

    @property
    def programs(self) -> tuple[Program, ...]:
        """One for each of the last shapes."""
        return self._region.programs

    def __call__(self, padded: Tensor, scale: Tensor, zero_point: int) -> Tensor:
        """fl(f32(Σ (x − z)·w)·scale[c]), x u8 [N, C, *spatial] with its borders."""
        (y,) = self._region([padded])
        return y.sub_((zero_point - _MIDDLE) * self._sums).mul_(scale.view(self._per_channel))
