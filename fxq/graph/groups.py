"""GroupedWeights: a matrix in 4, 8 or 16 bits, with a scale for each group of adjacent inputs of each output channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.weight_format import WeightFormat

# what a scale is at least: a row of zeros is a row of zeros
_LEAST_SCALE = 2.0**-126
_HALF_LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True, eq=False)
class GroupedWeights:
    """w' = fl(s·(q − z)), float32 [O, I]; of float16: w' = weight.

    Attributes:
        weight: 8 bits: s8 [O, I]. 4 bits: u8 [O, ⌈I/2⌉], of two inputs the first in the low half, in two's complement. f16 [O, I].
        scale: f32 [O, groups]; None of float16.
        zero: f32 [O, groups], a real number; None where it is 0.
        format: how they are stored.
        features: I.
        bias: f32 [O], or None.
    """

    weight: Tensor
    scale: Tensor | None
    zero: Tensor | None
    format: WeightFormat
    features: int
    bias: Tensor | None = None

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]

    def integers(self) -> Tensor:
        """q, s8 [O, I] of 4 and 8 bits."""
        if self.format.bits == 8:
            return self.weight
        halves = torch.stack([self.weight & 15, self.weight >> 4], -1).reshape(self.outputs, 2 * self.weight.shape[1])
        return ((halves[:, : self.features] ^ 8).to(torch.int8) - 8).contiguous()

    def select(self, rows: Tensor) -> GroupedWeights:
        """Those of some output channels. Args: rows: i64 [n]."""
        parts = (self.weight, self.scale, self.zero, self.bias)
        weight, scale, zero, bias = (None if tensor is None else tensor.index_select(0, rows) for tensor in parts)
        assert weight is not None
        return GroupedWeights(weight, scale, zero, self.format, self.features, bias)

    def real(self) -> Tensor:
        """w'"""
        if self.scale is None:
            return self.weight.to(torch.float32)
        q = self.integers().to(torch.float32)
        size = self.format.group or max(self.features, 1)
        shifted = q if self.zero is None else q - self.zero.repeat_interleave(size, 1)[:, : self.features]
        return shifted * self.scale.repeat_interleave(size, 1)[:, : self.features]


def group_weights(weight: Tensor, format: WeightFormat, bias: Tensor | None = None, where: str = "weight") -> GroupedWeights:
    """f32 [O, I] → the nearest that the format has: of each group the least and the largest weight are kept, or the larger one.

    Args:
        where: what an error calls the weight.

    Raises:
        ConfigError: a weight is not finite.
    """
    values = weight.detach().to(torch.float32)
    if not bool(torch.isfinite(values).all()):
        raise ConfigError(where, expected="finite numbers", found="NaN or infinity", remedy="look at how the model was trained")
    outputs, features = values.shape
    shift = None if bias is None else bias.detach().to(torch.float32).clone()
    if format.bits == 16:
        return GroupedWeights(values.clamp(-_HALF_LARGEST, _HALF_LARGEST).to(torch.float16), None, None, format, features, shift)
    size, groups = format.group or max(features, 1), format.groups(features)
    # the last group may be shorter: its last weight again changes no range
    filled = torch.nn.functional.pad(values[None], (0, groups * size - features), "replicate")[0] if groups * size > features else values
    split = filled.reshape(outputs, groups, size)
    scale, zero = _ranges(split, format)
    half = 2 ** (format.bits - 1)
    q = split / scale[..., None] if zero is None else split / scale[..., None] + zero[..., None]
    q = q.round().clamp(1 - half if format.symmetric else -half, half - 1).to(torch.int8).reshape(outputs, groups * size)
    return GroupedWeights(_pack(q[:, :features], format.bits), scale, zero, format, features, shift)


def _ranges(split: Tensor, format: WeightFormat) -> tuple[Tensor, Tensor | None]:
    """(s, z) of each group; integers are centred on 0."""
    half = 2 ** (format.bits - 1)
    if format.symmetric:
        return (split.abs().amax(-1) / (half - 1)).clamp(min=_LEAST_SCALE), None
    low, high = split.amin(-1), split.amax(-1)
    scale = ((high.double() - low) / (2 * half - 1)).float()
    # of equal weights: a scale with which s·(q − z) is what they are
    scale = torch.where(scale > low.abs() * 2.0**-40, scale, low.abs().clamp(min=_LEAST_SCALE))
    return scale, -half - low / scale


def _pack(q: Tensor, bits: int) -> Tensor:
    if bits == 8:
        return q.contiguous()
    even = torch.nn.functional.pad(q, (0, q.shape[1] % 2)).to(torch.uint8) & 15
    return (even[:, 0::2] | (even[:, 1::2] << 4)).contiguous()
