"""nn.MultiheadAttention whose four projections have int8 weights, or fewer bits; the attention itself is float32."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxq.runtime.choice import wanted_runtime
from fxq.runtime.dynamic.rows import RowOp
from fxq.runtime.memory import has_memory
from fxq.runtime.multihead import MultiheadCall


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """F.scaled_dot_product_attention(query, keys, values, mask) of [N, heads, L or S, d]: compiled where that is float32 on a CPU."""
    tensors = (query, keys, values)
    has_code = has_memory(*tensors) and all(each.dtype == torch.float32 and not each.requires_grad for each in tensors)
    if has_code and wanted_runtime("auto") != "integer":
        from fxq.runtime.jit.attention import compiled_attention, mask_kind  # only where it is wanted: LLVM takes a moment to load
        from fxq.runtime.jit.kernels.attention import Heads

        heads = query.shape[1]
        code = compiled_attention(Heads(heads, heads // keys.shape[1], query.shape[3], values.shape[3], mask_kind(mask), is_causal=False))
        if code is not None:
            return code(query, keys, values, mask, 1 / math.sqrt(query.shape[3]))
    return F.scaled_dot_product_attention(query, keys, values, mask)


@dataclass(frozen=True)
class Projections:
    """Of queries, keys and values, and of what the heads give."""

    query: RowOp
    key: RowOp
    value: RowOp
    out: RowOp


class DynamicAttention(MultiheadCall, nn.Module):
    """softmax(q·kᵀ/√d + mask)·v for each head, between int8 projections, in evaluation: called as nn.MultiheadAttention.

    Args:
        projections: with biases in them.
        num_heads: d is the output size of the projection of queries, divided by it.
        batch_first: inputs and output are [N, L, E], else [L, N, E].
    """

    # what nn.TransformerEncoderLayer asks before it hands float weights to a kernel of its own
    in_proj_bias: ClassVar[None] = None

    def __init__(self, projections: Projections, num_heads: int, *, batch_first: bool) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = projections.query, projections.key, projections.value, projections.out
        self.num_heads, self.head_dim, self.batch_first = num_heads, projections.query.out_features // num_heads, batch_first

    def project(self, inputs: list[Tensor]) -> list[Tensor]:
        query, key, value = inputs if len(inputs) == 3 else inputs * 3
        return [self.query(query), self.key(key), self.value(value)]

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return attend(q, k, v, mask)

    def combine(self, mixed: Tensor) -> Tensor:
        output: Tensor = self.out(mixed)
        return output
