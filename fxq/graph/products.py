"""The float meaning of the canonical ops that are products of matrices, and of a matrix in few bits.

Products without an integer form are written out by the pass expand_products.

Parameter names carry the roles, as in fxq.graph.functional.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.graph.groups import GroupedWeights
from fxq.graph.weight_format import BITS, WeightFormat


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """input · other, [..., M, K] · [..., K, N] with torch.matmul's broadcasting; also bmm and mm."""
    return torch.matmul(input, other)


def addmm(input: Tensor, tensors: Sequence[Tensor], beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · input + alpha · (tensors[0] · tensors[1]); also baddbmm. Where beta is 0 nothing of the input counts, nan neither."""
    product = torch.matmul(*tensors)
    scaled = product if alpha == 1 else product * alpha
    return scaled if beta == 0 else scaled + (input if beta == 1 else input * beta)


def bilinear(input: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """yₒ = inputᵀ · weightₒ · other + biasₒ, input [..., in], other [..., in'], weight [out, in, in']."""
    return F.bilinear(input, other, weight, bias)


def einsum(tensors: Sequence[Tensor], equation: str) -> Tensor:
    """Σ of products over the labels that the result does not have; the equation says all labels, without an ellipsis."""
    return torch.einsum(equation, *tensors)


def dequantize_groups(input: Tensor, scale: Tensor | None = None, zero: Tensor | None = None, group: int = 0, features: int = 0) -> Tensor:
    """scale · (input − zero), float32 [rows, features]: the weights that few bits stand for, their number told by the dtype."""
    return GroupedWeights(input, scale, zero, WeightFormat(BITS[input.dtype], group, zero is None), features).real()


def attention(
    input: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, dropout: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """softmax(input · keysᵀ · scale + mask) · values, input [..., heads, L, d], keys [..., heads, S, d], values [..., heads, S, e].

    A bool mask says which scores count, is_causal that those of later keys do not. The scale is 1/√d where none is given. With enable_gqa
    several heads of the input share one of the keys and values.
    """
    return F.scaled_dot_product_attention(input, keys, values, mask, dropout, is_causal, scale=scale, enable_gqa=enable_gqa)


def addcmul(input: Tensor, tensors: Sequence[Tensor], value: float = 1) -> Tensor:
    """input + value · tensors[0] · tensors[1]"""
    return torch.addcmul(input, *tensors, value=value)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a · sigmoid(b), the two halves of input along dim"""
    return F.glu(input, dim)
