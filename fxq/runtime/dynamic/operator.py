"""torch.ops.fxq.rows: an op that makes rows of a tensor's rows, as an operator of torch, which torch.compile calls as it is."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fxq.runtime.numbered import Numbered


class Rows(Protocol):
    """An op on one tensor."""

    def compute(self, x: Tensor) -> Tensor:
        """Its result, in memory of its own."""

    def like(self, x: Tensor) -> Tensor:
        """A tensor with the result's shape and dtype, and any values."""


# by the number that the operator is called with
_OPS: Numbered[Rows] = Numbered()
register = _OPS.register


@torch.library.custom_op("fxq::rows", mutates_args=(), schema="(Tensor x, int number) -> Tensor")
def run_rows(x: Tensor, number: int) -> Tensor:
    """What a registered op computes."""
    return _OPS[number].compute(x)


@run_rows.register_fake
def _like(x: Tensor, number: int) -> Tensor:
    return _OPS[number].like(x)


def is_compiled_around() -> bool:
    """Whether torch.compile traces, and nothing has to run without fxq."""
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()
