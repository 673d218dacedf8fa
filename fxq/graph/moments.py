"""What a layer with weights knows of the channels that it reads."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance of each input channel over calibration: f64 [channels], finite."""

    mean: Tensor
    variance: Tensor
