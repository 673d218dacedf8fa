"""nn.MultiheadAttention, written out as linears, matrix products and a softmax, so that they can be quantized one by one."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.MultiheadAttention):
    """The same module, with a forward that torch.fx can trace: softmax(q·kᵀ/√d)·v for each head.

    Batched inputs, one embedding size, no masks; with masks it is one call as before. It has no parameters of its own: a
    MultiheadAttention becomes one by changing its class.
    """

    stands_for: ClassVar[type[nn.Module]] = nn.MultiheadAttention

    def forward(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None,
        average_attn_weights: bool = True, is_causal: bool = False,
    ) -> Any:  # fmt: skip
        """(output, weights) as nn.MultiheadAttention.forward gives them."""
        if key_padding_mask is not None or attn_mask is not None or is_causal:
            return super().forward(query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)
        is_self_attention = query is key and key is value
        if not self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        q, k, v = self._projected_at_once(query) if is_self_attention else self._projected(query, key, value)
        mixed, weights = self._mixed(*map(self._heads, (q, k, v)), need_weights=need_weights)
        output = F.linear(mixed.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)
        output = output if self.batch_first else output.transpose(0, 1)
        if not need_weights:
            return output, None
        return output, weights.mean(1) if average_attn_weights else weights

    def _mixed(self, q: Any, k: Any, v: Any, *, need_weights: bool) -> tuple[Any, Any]:
        """Values of each head, and the weights that they were mixed with where somebody needs these, or drops some."""
        if not (need_weights or (self.training and self.dropout)):
            return F.scaled_dot_product_attention(q, k, v), None
        weights = F.softmax((q @ k.transpose(-2, -1)) * (1 / math.sqrt(self.head_dim)), dim=-1)
        return F.dropout(weights, self.dropout, self.training) @ v, weights

    def _projected_at_once(self, x: Tensor) -> tuple[Tensor, ...]:
        return F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)

    def _projected(self, *inputs: Tensor) -> list[Tensor]:
        weights = self.in_proj_weight.chunk(3)
        biases = None if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        # by index: what is traced cannot be iterated
        return [F.linear(x, weights[part], None if biases is None else biases[part]) for part, x in enumerate(inputs)]

    def _heads(self, x: Tensor) -> Tensor:
        """[N, L, E] → [N, heads, L, E / heads]"""
        return torch.unflatten(x, -1, (self.num_heads, self.head_dim)).transpose(1, 2)


def write_out_attention(model: nn.Module) -> None:
    """Gives every MultiheadAttention of the model that it covers the traceable forward."""
    for module in model.modules():
        if type(module) is nn.MultiheadAttention and _is_covered(module):
            module.__class__ = Attention


def _is_covered(module: nn.MultiheadAttention) -> bool:
    has_hooks = bool(module._forward_hooks or module._forward_pre_hooks)
    return module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn and not has_hooks
