"""FLOAT_ONLY: what torch computes and fxq knows to leave in float32, and why. Rows of OPS are what it computes on integers."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class FloatOnly:
    """Functions, methods and modules that stay float for one reason, as a sentence goes on."""

    why: str
    targets: tuple[Any, ...]


# fmt: off
FLOAT_ONLY = (
    FloatOnly("is steeper near 0 than the steps of 8 bits can follow", (
        torch.log, torch.log2, torch.log10, torch.reciprocal, "log", "log2", "log10", "reciprocal",
    )),
    FloatOnly("needs more of a large angle than 8 bits", (torch.sin, torch.cos, torch.tan, "sin", "cos", "tan")),
    FloatOnly("gives logarithms, which span more than 8 bits resolve", (
        torch.log_softmax, F.log_softmax, nn.LogSoftmax, "log_softmax", torch.logsumexp, "logsumexp",
    )),
    FloatOnly("adds up more and more of its input, and 8 bits would hold the first sums coarsely", (
        torch.cumsum, torch.cumprod, torch.logcumsumexp, "cumsum", "cumprod",
    )),
    FloatOnly("takes the deviation or length of its input, or divides by it, which spreads rounding", (
        torch.var, torch.std, torch.var_mean, torch.std_mean, torch.norm, "var", "std", "norm", F.normalize, F.cosine_similarity,
        nn.CosineSimilarity, F.local_response_norm, nn.LocalResponseNorm,
    )),
    FloatOnly("gives distances, which are small differences of large numbers", (torch.cdist, F.pairwise_distance, nn.PairwiseDistance)),
    FloatOnly("gives indices, also where it gives values as well", (
        torch.argmax, torch.argmin, torch.argsort, torch.sort, torch.topk, torch.nonzero, "argmax", "argmin", "argsort", "sort", "topk",
        "nonzero",
    )),
    FloatOnly("compares, and its result is true or false", (
        torch.eq, torch.ne, torch.lt, torch.le, torch.gt, torch.ge, operator.eq, operator.ne, operator.lt, operator.le, operator.gt,
        operator.ge, "eq", "ne", "lt", "le", "gt", "ge", torch.logical_not, torch.logical_and, torch.logical_or, "logical_not",
        "logical_and", "logical_or", operator.and_, operator.or_, operator.xor, operator.invert, torch.isnan, torch.isinf, "isnan", "isinf",
    )),
    FloatOnly("takes elements from places that another tensor names", (
        torch.gather, "gather", torch.take_along_dim, "take_along_dim", F.grid_sample,
    )),
    FloatOnly("adds up rows of a table, which nn.EmbeddingBag has a form in few bits for", (F.embedding_bag,)),
    FloatOnly("lays out coordinates", (torch.meshgrid, torch.cartesian_prod)),
    FloatOnly("makes a tensor, and reads no element", (
        torch.zeros, torch.ones, torch.empty, torch.full, torch.arange, torch.linspace, torch.eye, torch.tensor, torch.as_tensor,
        torch.zeros_like, torch.ones_like, torch.full_like, torch.empty_like, "new_zeros", "new_ones", "new_full", "new_empty",
    )),
    FloatOnly("multiplies in the order that its sizes suggest; a @ b @ c says one, and is int8", (
        torch.chain_matmul, torch.linalg.multi_dot,
    )),
    FloatOnly("adds up products; einsum('bij,bjk->ik', a, b) + c is int8", (torch.addbmm, "addbmm")),
    FloatOnly("changes the dtype, or the device", (
        "to", "type", "type_as", "cpu", "float", "double", "half", "bfloat16", "long", "int", "bool",
    )),
)
# fmt: on


@cache
def _why_by_target() -> Mapping[Any, str]:
    return {target: row.why for row in FLOAT_ONLY for target in row.targets}


def why_float(target: Any) -> str | None:
    """Why a function, the name of a method or a class of modules stays float; None for what has no row."""
    return _why_by_target().get(target)
