"""Observers of the smallest and the largest value seen."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from fxq.errors import CalibrationError, ConfigError
from fxq.graph.qtypes import WEIGHT_PER_CHANNEL, QParams, QuantSpec, choose_qparams
from fxq.observers.base import Extent, Observer


class MinMaxObserver(Observer):
    """[min, max] of all batches → qparams; per channel if the spec has an axis.

    Attributes:
        low, high: f32 buffers, shape [] before the first batch and per tensor, [channels] per channel.
    """

    low: Tensor
    high: Tensor

    def __init__(self, spec: QuantSpec | None = None) -> None:
        """Has seen nothing."""
        super().__init__(spec)
        # of nothing the minimum is +inf; it broadcasts to [channels] with the first batch
        self.register_buffer("low", torch.tensor(float("inf")))
        self.register_buffer("high", torch.tensor(float("-inf")))

    def record(self, values: Tensor) -> None:
        """low = min(low, min(x)), high = max(high, max(x))."""
        self._widen(self.measure(values))

    def absorb(self, other: Any) -> None:
        """The extremes of both."""
        self._widen(Extent(other.low, other.high))

    def qparams(self) -> QParams:
        """choose_qparams(low, high). Raises CalibrationError if no data was seen."""
        self.check_seen()
        return choose_qparams(self.low, self.high, self.spec)

    def check_channels(self, extent: Extent) -> None:
        """Raises CalibrationError if an earlier batch had another number of channels."""
        if self.batches > 0 and extent.low.shape != self.low.shape:
            raise CalibrationError(
                f"{self.label}, batch {self.batches + 1}",
                expected=f"{self.low.numel()} channels on axis {self.spec.axis}, as before",
                found=f"{extent.low.numel()} channels",
                remedy="observe tensors with a varying number of channels per tensor, or set ch_axis",
            )

    def _widen(self, extent: Extent) -> None:
        self.check_channels(extent)
        self.low = torch.minimum(self.low, extent.low)
        self.high = torch.maximum(self.high, extent.high)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """low and high take the shape in which they were saved: [] or [channels]."""
        for key in ("low", "high"):
            saved = state_dict.get(prefix + key)
            if saved is not None:
                setattr(self, key, torch.empty_like(saved, device=self.low.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class PerChannelMinMaxObserver(MinMaxObserver):
    """[min, max] of each channel → one (scale, zero_point) per channel; axis 0 unless ch_axis says otherwise."""

    default_spec: ClassVar[QuantSpec] = WEIGHT_PER_CHANNEL

    @classmethod
    def check_spec(cls, spec: QuantSpec) -> None:
        """Raises ConfigError for a spec without a channel axis."""
        check_per_channel(cls, spec)


def check_per_channel(kind: type[Observer], spec: QuantSpec) -> None:
    """Raises ConfigError for a spec without a channel axis."""
    if spec.axis is None:
        raise ConfigError(
            kind.__name__,
            expected="a spec with a channel axis",
            found=str(spec),
            remedy=f"use {kind.__name__.replace('PerChannel', '')}, or a per-channel qscheme with ch_axis",
        )
