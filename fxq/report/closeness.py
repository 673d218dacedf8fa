"""How close approximate values are to exact ones, summed up batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

Tensors = tuple[Tensor, ...]


class Closeness(BaseModel):
    """x' beside x, over all elements that were seen.

    Attributes:
        sqnr_db: 10·log10(Σ x² / Σ (x − x')²), signal to quantization noise; infinite where both are equal. JSON has "Infinity".
        max_error: the largest |x − x'|.
        cosine: Σ x·x' / sqrt(Σ x² · Σ x'²), from −1 to 1; 1 where both are zero.
        elements: how many.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    sqnr_db: float
    max_error: float
    cosine: float
    elements: int


@dataclass
class Sums:
    """What a Closeness follows from; bounded, however much is added. Sums are kept in float64."""

    signal: float = 0.0
    noise: float = 0.0
    approximate: float = 0.0
    product: float = 0.0
    worst: float = 0.0
    elements: int = 0

    def add(self, exact: Tensor, approximate: Tensor) -> None:
        """Both of one shape."""
        x, found = exact.detach().to(torch.float64).flatten(), approximate.detach().to(torch.float64).flatten()
        error = found - x
        self.signal += float(x @ x)
        self.noise += float(error @ error)
        self.approximate += float(found @ found)
        self.product += float(x @ found)
        self.elements += x.numel()
        if x.numel():
            self.worst = _larger(self.worst, float(error.abs().max()))

    def add_all(self, exact: Tensors, approximate: Tensors) -> None:
        """Tensors that stand for one another in this order."""
        for x, found in zip(exact, approximate, strict=True):
            self.add(x, found)

    def closeness(self) -> Closeness:
        """Of all that was added."""
        return Closeness(sqnr_db=sqnr_db(self.signal, self.noise), max_error=self.worst, cosine=self._cosine(), elements=self.elements)

    def _cosine(self) -> float:
        length = math.sqrt(self.signal) * math.sqrt(self.approximate)
        if length == 0:
            return 1.0 if self.signal == self.approximate else 0.0
        return self.product / length


def sqnr_db(signal: float, noise: float) -> float:
    """10·log10(signal / noise) of two sums of squares; infinite without noise, −infinite where there is only noise."""
    if noise == 0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0 else -math.inf if signal == 0 else math.nan


def _larger(a: float, b: float) -> float:
    """NaN where one of them is."""
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def closeness(exact: Iterable[Tensor], approximate: Iterable[Tensor]) -> Closeness:
    """Of tensors that stand for one another in this order, each pair of one shape."""
    sums = Sums()
    sums.add_all(tuple(exact), tuple(approximate))
    return sums.closeness()


def same_shapes(exact: Tensors, approximate: Tensors) -> bool:
    """Whether as many tensors of the same shapes are there."""
    return [tensor.shape for tensor in exact] == [tensor.shape for tensor in approximate]
