"""Ops that fxq does not have, on the top level of a module as a pickle needs it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fxq.graph.opdef import OpDef, Policy
from fxq.graph.qtypes import QParams
from fxq.graph.spellings import spelled


class Swishier(nn.Module):
    """x · sigmoid(βx)"""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


def swishier(input: Tensor, beta: float = 1.0) -> Tensor:
    """x · sigmoid(βx)"""
    return input * torch.sigmoid(beta * input)


def atan(input: Tensor) -> Tensor:
    """torch.atan"""
    return torch.atan(input)


def rot90(input: Tensor, k: int = 1, dims: tuple[int, int] = (0, 1)) -> Tensor:
    """torch.rot90"""
    return torch.rot90(input, k, dims)


SWISHIER = OpDef("swishier", swishier, Policy.TABLE, spelled(Swishier, swishier))
ATAN = OpDef("atan", atan, Policy.FIXED, spelled(torch.atan, "atan"), fixed=QParams.per_tensor(1 / 64, 128))
ROT90 = OpDef("rot90", rot90, Policy.MOVES, spelled(torch.rot90, "rot90"))
