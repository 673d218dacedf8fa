"""The float meaning of the canonical ops that are elementary functions of one tensor, element by element.

Parameter names carry the roles, as in fxq.graph.functional.
"""

from __future__ import annotations

import torch
from torch import Tensor


def neg(input: Tensor) -> Tensor:
    """−input"""
    return torch.neg(input)


def abs(input: Tensor) -> Tensor:
    """|input|"""
    return torch.abs(input)


def exp(input: Tensor) -> Tensor:
    """e^input"""
    return torch.exp(input)


def expm1(input: Tensor) -> Tensor:
    """e^input − 1"""
    return torch.expm1(input)


def log1p(input: Tensor) -> Tensor:
    """log(1 + input)"""
    return torch.log1p(input)


def sqrt(input: Tensor) -> Tensor:
    """√input"""
    return torch.sqrt(input)


def square(input: Tensor) -> Tensor:
    """input²"""
    return torch.square(input)


def pow(input: Tensor, exponent: float) -> Tensor:
    """input^exponent, with a number for the exponent"""
    return torch.pow(input, exponent)


def erf(input: Tensor) -> Tensor:
    """2/√π · ∫ e^(−t²) dt from 0 to input"""
    return torch.erf(input)
