"""Modules of torch that hold attention, written out as linears, products and a softmax, so that these can be quantized one by one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from fxq.runtime.multihead import MultiheadCall


class Attention(MultiheadCall, nn.MultiheadAttention):
    """The same module, with a forward that torch.fx can trace.

    It has no parameters of its own: a MultiheadAttention becomes one by changing its class.
    """

    stands_for: ClassVar[type[nn.Module]] = nn.MultiheadAttention

    def project(self, inputs: list[Any]) -> list[Any]:
        q, k, v = self._projected_at_once(*inputs) if len(inputs) == 1 and self._qkv_same_embed_dim else self._projected(inputs)
        return [q, self._longer(k, self.bias_k), self._longer(v, self.bias_v)]

    def mix(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)

    def combine(self, mixed: Any) -> Any:
        return F.linear(mixed, self.out_proj.weight, self.out_proj.bias)

    def mask(self, padding: Any, attention: Any, q: Any) -> Any:
        found, more = super().mask(padding, attention, q), (self.bias_k is not None) + self.add_zero_attn
        return F.pad(found, (0, more)) if more and found is not None else found

    def drop(self, weights: Any) -> Any:
        return F.dropout(weights, self.dropout, self.training)

    def _projected_at_once(self, x: Any) -> list[Any]:
        parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        return [parts[part] for part in range(3)]  # what is traced cannot be iterated

    def _projected(self, inputs: list[Any]) -> list[Any]:
        apart = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        weights = self.in_proj_weight.chunk(3) if self._qkv_same_embed_dim else apart
        biases = None if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(inputs[part % len(inputs)], weights[part], None if biases is None else biases[part]) for part in range(3)]

    def _longer(self, x: Any, constant: Any) -> Any:
        """[N, S, E] with the module's own key or value behind those of each image, and one of zeros."""
        if constant is not None:
            x = torch.cat((x, constant.expand(x.shape[0], 1, self.embed_dim)), 1)
        return F.pad(x, (0, 0, 0, 1)) if self.add_zero_attn else x


class Encoder(nn.TransformerEncoder):
    """The same module, which does not look into its mask, and calls its layers with what it is given."""

    stands_for: ClassVar[type[nn.Module]] = nn.TransformerEncoder

    def forward(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None) -> Any:
        """What layers compute for padding is what they compute, where torch may write zeros."""
        return super().forward(src, mask, src_key_padding_mask, bool(is_causal))


class Decoder(nn.TransformerDecoder):
    """The same module, which does not look into its mask."""

    stands_for: ClassVar[type[nn.Module]] = nn.TransformerDecoder

    def forward(
        self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None, tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None, tgt_is_causal: bool | None = None, memory_is_causal: bool = False,
    ) -> Any:  # fmt: skip
        """As nn.TransformerDecoder's: whether a mask is causal changes nothing of what comes out."""
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return super().forward(tgt, memory, *masks, bool(tgt_is_causal), memory_is_causal)


_TRACEABLE: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.MultiheadAttention: Attention,
    nn.TransformerEncoder: Encoder,
    nn.TransformerDecoder: Decoder,
}


def write_out_attention(model: nn.Module, named: Collection[Any] = ()) -> None:
    """Gives modules of torch that hold attention a forward that can be traced, unless the class is named, or a hook waits for calls."""
    for module in model.modules():
        traceable = None if type(module) in named else _TRACEABLE.get(type(module))
        if traceable is not None and not module._forward_hooks and not module._forward_pre_hooks:
            module.__class__ = traceable
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
