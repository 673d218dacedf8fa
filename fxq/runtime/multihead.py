"""nn.MultiheadAttention's forward, without what torch.fx cannot read: for float modules that are traced, and for quantized ones."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class MultiheadCall:
    """softmax(q·kᵀ/√d + mask)·v for each head, called as nn.MultiheadAttention. What projects is the business of who inherits.

    Attributes:
        num_heads, head_dim: how many, and d.
        batch_first: inputs and output are [N, L, E], else [L, N, E].
    """

    num_heads: int
    head_dim: int
    batch_first: bool

    def forward(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None,
        average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Any, Any]:  # fmt: skip
        """(output, weights) as nn.MultiheadAttention.forward gives them, also without a batch.

        is_causal only says of attn_mask, which is needed beside it, what that is.
        """
        batched = query.dim() == 3
        given = (query,) if query is key and key is value else (query, key, value)
        inputs = [self._batch_first(each) if batched else each[None] for each in given]
        q, k, v = (self._heads(each) for each in self.project(inputs))
        mixed, weights = self._attend(q, k, v, self.mask(key_padding_mask, attn_mask, q), need_weights=need_weights)
        output = self.combine(mixed.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return output[0], None if weights is None else weights[0]
        return self._batch_first(output), weights

    @abstractmethod
    def project(self, inputs: list[Any]) -> list[Any]:
        """[N, L or S, E] of queries, keys and values, for as many inputs, or for one that is all three."""

    @abstractmethod
    def mix(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
        """F.scaled_dot_product_attention of [N, heads, L or S, d]."""

    @abstractmethod
    def combine(self, mixed: Any) -> Any:
        """The output's projection, of the values of all heads, [N, L, E]."""

    def mask(self, padding: Any, attention: Any, q: Any) -> Any:
        """Both masks as one summand of the scores, [N or 1, heads or 1, L or 1, S]; True in a bool mask means: not this one."""
        masks = []
        if padding is not None:
            masks.append(_summand(padding, q.dtype).reshape(-1, 1, 1, padding.shape[-1]))
        if attention is not None:
            split = (-1, self.num_heads) if attention.dim() == 3 else (1, 1)
            masks.append(_summand(attention, q.dtype).reshape(*split, attention.shape[-2], attention.shape[-1]))
        return sum(masks[1:], masks[0]) if masks else None

    def drop(self, weights: Any) -> Any:
        """What training leaves of them."""
        return weights

    def _attend(self, q: Any, k: Any, v: Any, mask: Any, *, need_weights: bool) -> tuple[Any, Any]:
        """Values of each head, and the weights that they were mixed with where somebody asks for these."""
        if not need_weights:
            return self.mix(q, k, v, mask), None
        scores = (q @ k.transpose(-2, -1)) * (1 / math.sqrt(self.head_dim))
        weights = F.softmax(scores if mask is None else scores + mask, dim=-1)
        return self.drop(weights) @ v, weights

    def _batch_first(self, x: Any) -> Any:
        """There and back."""
        return x if self.batch_first else x.transpose(0, 1)

    def _heads(self, x: Any) -> Any:
        """[N, L, E] → [N, heads, L, E / heads]"""
        return torch.unflatten(x, -1, (self.num_heads, self.head_dim)).transpose(1, 2)


def _summand(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)
