"""A product of rows that are quantized as they arrive with int8 weights, as plain data: what ops mean and what is compiled."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.runtime.integer.outputs import FloatOutput

_INT32 = 2**31


@dataclass(frozen=True, eq=False)
class RowWeights:
    """The constants of a product with rows that are quantized as they arrive.

    Attributes:
        weight: s8 [O, I]; [O, I/groups, *kernel] of a convolution.
        scale: f32 [O], of each output channel's weights; their zero point is 0.
        bias: f32 [O], or None.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    @property
    def overflow(self) -> str | None:
        """Why a 32-bit accumulator could overflow; None where none can: Σ|w|·255 < 2^31 in every channel."""
        bound = 255 * self.weight.to(torch.int64).abs().flatten(1).sum(1).max() if self.weight.numel() else torch.tensor(0)
        return None if int(bound) < _INT32 else f"|acc| may reach {int(bound)}, and 32 bits hold less than {_INT32}"

    def select(self, rows: Tensor) -> RowWeights:
        """Those of some output channels. Args: rows: i64 [n]."""
        return RowWeights(self.weight[rows], self.scale[rows], None if self.bias is None else self.bias[rows])

    @property
    def features(self) -> int:
        return self.weight.shape[1]

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]


@dataclass(frozen=True, eq=False)
class RowProduct:
    """y = output(fl(fl(f32(Σ (x_q − z_x)·w)·fl(s_x·s_w[c])) + bias[c]))

    Attributes:
        weights: what x is multiplied with.
        output: activation and bounds.
        per_row: each row of x has qparams of its own; else all have the same.
    """

    weights: RowWeights
    output: FloatOutput
    per_row: bool
