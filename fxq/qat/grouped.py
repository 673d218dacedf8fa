"""GroupedFakeQuantize: weights as few bits will stand for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fxq.graph.groups import group_weights
from fxq.graph.weight_format import WeightFormat
from fxq.observers import Observer
from fxq.qat.fake_quantize import FakeQuantize


class GroupedFakeQuantize(FakeQuantize):
    """w → w' of GroupedWeights, bit for bit what conversion stores. Scales are always those of the weights of now.

    The gradient is 1: the ends of each group's range are weights.

    Args:
        observer: named as the weight is.
        format: how weights will be stored.
    """

    def __init__(self, observer: Observer, format: WeightFormat) -> None:
        super().__init__(observer, forgets=True)
        self.format = format

    def rounded_by(self, x: Tensor) -> Tensor:
        """x' [O, I]. Raises ConfigError where a weight is not finite."""
        made: Tensor = _Rounding.apply(x, self)  # type: ignore[no-untyped-call]
        return made

    def record(self, values: Tensor) -> None:
        """There is nothing to keep."""


class _Rounding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, module: GroupedFakeQuantize) -> Tensor:
        return group_weights(x, module.format, where=module.label).real().to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
