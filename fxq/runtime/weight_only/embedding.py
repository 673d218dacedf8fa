"""Rows of a table in few bits, looked up by number; and sums, means and maxima of some of them."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.graph.groups import GroupedWeights
from fxq.runtime.dynamic.op import Compiled, OneTensorOp
from fxq.runtime.weight_only.bags import Bags, are_rows, read_bags
from fxq.runtime.weight_only.op import WeightOnlyOp

# of what is looked up, as torch calls them
FloatDType = Literal["float32", "float16", "bfloat16", "float64"]


class WeightOnlyEmbedding(WeightOnlyOp, OneTensorOp):
    """y = w'[indices], rounded to a dtype: nn.Embedding in evaluation.

    Args:
        weights: of the table.
        dtype: of y, that of the float module's rows.
    """

    def __init__(self, weights: GroupedWeights, dtype: FloatDType = "float32") -> None:
        super().__init__(weights)
        self.dtype = dtype

    def forward(self, input: Tensor) -> Tensor:
        """Indices of any shape [...] → [..., features]. Raises IndexError as torch does."""
        return super().forward(input)

    def compute(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1)
        compiled = self.compiled(flat)
        if compiled is None or not are_rows(flat, self.shape[0]):
            rows = self.weights.select(flat).real()
        else:
            rows = compiled(flat.to(torch.int64).contiguous(), self.constants)
        return rows.to(getattr(torch, self.dtype)).reshape(*x.shape, self.shape[1])

    def like(self, x: Tensor) -> Tensor:
        return x.new_empty((*x.shape, self.shape[1]), dtype=getattr(torch, self.dtype))

    def compile_code(self) -> Compiled | None:
        from fxq.runtime.jit.embedding import compile_lookup  # only where it is wanted: LLVM takes a moment to load

        return compile_lookup(self.weights)

    def extra_repr(self) -> str:
        return f"{self.shape[0]}, {self.shape[1]}, w: {self.format}"


class WeightOnlyEmbeddingBag(WeightOnlyOp):
    """y[bag] = Σ w'[indices], or their mean or maximum: nn.EmbeddingBag in evaluation.

    Args:
        weights: of the table.
        bags: how rows come together.
        dtype: of y, which sums in float32 are rounded to.
    """

    def __init__(self, weights: GroupedWeights, bags: Bags, dtype: FloatDType = "float32") -> None:
        super().__init__(weights)
        self.bags, self.dtype = bags, dtype

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """As the float module's: indices [bags, n], or [n] with the offsets of bags → [bags, features].

        Sums of compiled code go in the order of the indices.
        """
        compiled = self.compiled(input)
        given = None if compiled is None else read_bags(self.bags, self.shape[0], input, offsets, per_sample_weights)
        if compiled is None or given is None:
            return self._by_torch(input, offsets, per_sample_weights).to(getattr(torch, self.dtype))
        return compiled(given, self.constants).to(getattr(torch, self.dtype))  # type: ignore[no-any-return]

    @torch.no_grad()
    def _by_torch(self, input: Tensor, offsets: Tensor | None, per_sample_weights: Tensor | None) -> Tensor:
        """Only rows that are asked for become floats; torch puts them together."""
        flat = input.reshape(-1)
        rows, numbers = self.weights.select(flat).real(), torch.arange(len(flat), device=flat.device)
        padding = None
        if self.bags.padding_idx is not None:  # what counts in no bag looks at a row behind all others
            padding = len(flat)
            numbers, rows = numbers.masked_fill_(flat == self.bags.padding_idx, padding), F.pad(rows, (0, 0, 0, 1))
        if per_sample_weights is not None:
            per_sample_weights = per_sample_weights.to(rows.dtype)
        found: Tensor = F.embedding_bag(
            numbers.reshape(input.shape), rows, None if offsets is None else offsets.to(numbers.dtype), mode=self.bags.mode,
            per_sample_weights=per_sample_weights, include_last_offset=self.bags.include_last_offset, padding_idx=padding,
        )  # fmt: skip
        return found

    def compile_code(self) -> Compiled | None:
        from fxq.runtime.jit.embedding import compile_bags  # only where it is wanted: LLVM takes a moment to load

        return compile_bags(self.weights, self.bags.mode)

    def extra_repr(self) -> str:
        return f"{self.shape[0]}, {self.shape[1]}, mode={self.bags.mode}, w: {self.format}"
