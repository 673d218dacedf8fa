"""The float meaning of the canonical ops that are products of matrices. Those without an integer form are written out by the pass
expand_products.

Parameter names carry the roles, as in fxq.graph.functional.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """input · other, [..., M, K] · [..., K, N] with torch.matmul's broadcasting; also bmm and mm."""
    return torch.matmul(input, other)


def addmm(input: Tensor, tensors: Sequence[Tensor], beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · input + alpha · (tensors[0] · tensors[1]); also baddbmm. Where beta is 0 nothing of the input counts, nan neither."""
    product = torch.matmul(*tensors)
    scaled = product if alpha == 1 else product * alpha
    return scaled if beta == 0 else scaled + (input if beta == 1 else input * beta)


def einsum(tensors: Sequence[Tensor], equation: str) -> Tensor:
    """Σ of products over the labels that the result does not have; the equation says all labels, without an ellipsis."""
    return torch.einsum(equation, *tensors)
