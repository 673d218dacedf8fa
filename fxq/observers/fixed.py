"""Observers whose result does not depend on data."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from fxq.errors import CalibrationError, ConfigError
from fxq.graph.qtypes import ACTIVATION, QParams, QuantSpec
from fxq.observers.base import Observer


class FixedQParamsObserver(Observer):
    """(scale, zero_point), whatever the data: for outputs with a known range, like sigmoid's 1/256 and 0.

    Attributes:
        scale: positive and finite.
        zero_point: inside the spec's range.
    """

    def __init__(self, spec: QuantSpec | None = None, *, scale: float, zero_point: int = 0) -> None:
        """Raises ConfigError for a scale or zero_point out of range."""
        super().__init__(spec)
        if not (scale > 0 and math.isfinite(scale) and self.spec.qmin <= zero_point <= self.spec.qmax):
            raise ConfigError(
                type(self).__name__,
                expected=f"a positive finite scale, and a zero_point in {self.spec.qmin}..{self.spec.qmax}",
                found=f"scale={scale!r}, zero_point={zero_point!r}",
                remedy="sigmoid and softmax have scale 1/256 and zero_point 0, tanh 1/128 and 128",
            )
        self.scale = float(scale)
        self.zero_point = int(zero_point)

    @classmethod
    def check_spec(cls, spec: QuantSpec) -> None:
        """Raises ConfigError for a spec with a channel axis."""
        check_per_tensor(cls, spec)

    def settings(self) -> tuple[object, ...]:
        """The constants must be the same, too."""
        return (*super().settings(), self.scale, self.zero_point)

    def record(self, values: Tensor) -> None:
        """Nothing but the number of batches is kept."""

    def absorb(self, other: Any) -> None:
        """Nothing but the number of batches is kept."""

    def qparams(self) -> QParams:
        """The given scale and zero_point; no data is needed."""
        return QParams.per_tensor(self.scale, self.zero_point, self.spec)


class PlaceholderObserver(Observer):
    """Carries a spec and records nothing: for tensors whose qparams come from each batch at run time."""

    default_spec: ClassVar[QuantSpec] = replace(ACTIVATION, dynamic=True)

    def observe(self, x: Tensor) -> None:
        """Not looked at, whatever its dtype."""

    def absorb(self, other: Any) -> None:
        """There is nothing to take in."""

    def qparams(self) -> QParams:
        """Raises CalibrationError: there are none before run time."""
        raise CalibrationError(
            self.label,
            expected="an observer that measures data",
            found=f"{type(self).__name__}, which only carries {self.spec}",
            remedy="use MinMaxObserver or HistogramObserver where static qparams are needed",
        )


class NoopObserver(PlaceholderObserver):
    """Records nothing and asks for nothing: the tensor stays as it is."""

    default_spec: ClassVar[QuantSpec] = ACTIVATION


def check_per_tensor(kind: type[Observer], spec: QuantSpec) -> None:
    """Raises ConfigError for a spec with a channel axis."""
    if spec.axis is not None:
        raise ConfigError(
            kind.__name__,
            expected="a per-tensor spec",
            found=str(spec),
            remedy="use PerChannelMinMaxObserver, or a per-tensor qscheme",
        )
