"""A product of rows of floats with weights of few bits, as plain data: what ops mean and what is compiled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fxq.graph.groups import GroupedWeights
from fxq.runtime.integer.outputs import FloatOutput, finish


@dataclass(frozen=True, eq=False)
class GroupedProduct:
    """y = output(Σ x·w' + bias), w' the floats that the weights stand for.

    Attributes:
        weights: what x is multiplied with, and what is added.
        output: activation and bounds.
    """

    weights: GroupedWeights
    output: FloatOutput

    @cached_property
    def real(self) -> Tensor:
        """w', made once for a product that is computed step after step."""
        return self.weights.real()


@torch.no_grad()
def grouped_product(rows: Tensor, product: GroupedProduct) -> Tensor:
    """What a GroupedProduct means, by torch's ops: f32 [rows, I] → f32 [rows, O]. Sums are in the order of torch's library."""
    return finish(torch.nn.functional.linear(rows, product.real, product.weights.bias), product.output)
