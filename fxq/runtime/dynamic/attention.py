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


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """F.scaled_dot_product_attention(query, keys, values, mask) of [N, heads, L or S, d]: compiled where that is float32 on a CPU."""
    tensors = (query, keys, values)
    has_code = all(each.is_cpu and each.dtype == torch.float32 and not each.requires_grad for each in tensors)
    if has_code and not torch.compiler.is_compiling() and wanted_runtime("auto") != "integer":
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


class DynamicAttention(nn.Module):
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
        self.num_heads, self.batch_first = num_heads, batch_first

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None, need_weights: bool = True,
        attn_mask: Tensor | None = None, average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """(output, weights) as nn.MultiheadAttention.forward gives them, also without a batch.

        is_causal only says of attn_mask, which is needed beside it, what that is.
        """
        batched = query.ndim == 3
        inputs = [self._batch_first(each) if batched else each[None] for each in (query, key, value)]
        q, k, v = (self._heads(project(x)) for project, x in zip((self.query, self.key, self.value), inputs, strict=True))
        mask = self._mask(key_padding_mask, attn_mask, q)
        if need_weights:
            weights = F.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + (0.0 if mask is None else mask), -1)
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            weights, mixed = None, attend(q, k, v, mask)
        output = self.out(mixed.transpose(1, 2).flatten(2))
        if not batched:
            return output[0], None if weights is None else weights[0]
        return self._batch_first(output), weights

    def _batch_first(self, x: Tensor) -> Tensor:
        """There and back."""
        return x if self.batch_first else x.transpose(0, 1)

    def _heads(self, x: Tensor) -> Tensor:
        """[N, L, E] → [N, heads, L, E / heads]"""
        return torch.unflatten(x, -1, (self.num_heads, -1)).transpose(1, 2)

    def _mask(self, padding: Tensor | None, attention: Tensor | None, q: Tensor) -> Tensor | None:
        """Both masks as one summand of the scores, [N or 1, heads or 1, L or 1, S]; True in a bool mask means: not this one."""
        masks = []
        if padding is not None:
            masks.append(_summand(padding, q.dtype).reshape(-1, 1, 1, padding.shape[-1]))
        if attention is not None:
            shape = attention.shape[-2:]
            split = (-1, self.num_heads) if attention.ndim == 3 else (1, 1)
            masks.append(_summand(attention, q.dtype).reshape(*split, *shape))
        return sum(masks[1:], masks[0]) if masks else None


def _summand(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(mask, -math.inf)
