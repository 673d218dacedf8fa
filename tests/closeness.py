"""How close results are, for tests of several parts."""

from __future__ import annotations

from torch import Tensor

from fxq.report.closeness import closeness


def sqnr(found: Tensor, expected: Tensor) -> float:
    """Signal to quantization noise in dB."""
    return closeness([expected], [found]).sqnr_db
