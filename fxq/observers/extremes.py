"""What observers of a range have in common: the smallest and the largest value of all batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fxq.errors import CalibrationError, ConfigError
from fxq.graph.qtypes import QuantSpec
from fxq.observers.base import Extent, Observer
from fxq.observers.distribution import Distribution


class ExtremesObserver(Observer):
    """[low, high] holds all batches; per channel if the spec has an axis.

    Attributes:
        low, high: f32 buffers, shape [] before the first batch and per tensor, [channels] per channel.
        growing_buffers: those whose first dimension comes with the data, like channels, and how many dimensions follow it.
    """

    growing_buffers: ClassVar[Mapping[str, int]] = {"low": 0, "high": 0}

    low: Tensor
    high: Tensor

    def __init__(self, spec: QuantSpec | None = None) -> None:
        """Has seen nothing."""
        super().__init__(spec)
        # of nothing the minimum is +inf; it broadcasts to [channels] with the first batch
        self.register_buffer("low", torch.scalar_tensor(math.inf))
        self.register_buffer("high", torch.scalar_tensor(-math.inf))

    def distribution(self) -> Distribution | None:
        """The range; of all channels together."""
        return Distribution(float(self.low.min()), float(self.high.max())) if self.batches and self.low.numel() else None

    def check_channels(self, extent: Extent) -> None:
        """Raises CalibrationError if an earlier batch had another number of channels."""
        if self.batches > 0 and extent.low.shape != self.low.shape:
            raise CalibrationError(
                f"{self.label}, batch {self.batches + 1}",
                expected=f"{self.low.numel()} channels on axis {self.spec.axis}, as before",
                found=f"{extent.low.numel()} channels",
                remedy="observe tensors with a varying number of channels per tensor, or set ch_axis",
            )

    def widen(self, extent: Extent) -> None:
        """low = min(low, extent.low), high = max(high, extent.high)."""
        self.check_channels(extent)
        self.low = torch.minimum(self.low, extent.low)
        self.high = torch.maximum(self.high, extent.high)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """The buffers take the shape in which they were saved."""
        for key, dimensions in self.growing_buffers.items():
            saved, now = state_dict.get(prefix + key), getattr(self, key)
            # another number of bins is left to be refused
            if saved is not None and saved.shape[saved.ndim - dimensions :] == now.shape[now.ndim - dimensions :]:
                setattr(self, key, torch.empty_like(saved, device=now.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def check_per_channel(kind: type[Observer], spec: QuantSpec) -> None:
    """Raises ConfigError for a spec without a channel axis."""
    if spec.axis is None:
        raise ConfigError(
            kind.__name__,
            expected="a spec with a channel axis",
            found=str(spec),
            remedy=f"use {kind.__name__.replace('PerChannel', '')}, or a per-channel qscheme with ch_axis",
        )
