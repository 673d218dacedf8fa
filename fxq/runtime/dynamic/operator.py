"""torch.ops.fxq.rows: an op that makes rows of a tensor's rows, as an operator of torch, which torch.compile calls as it is."""

from __future__ import annotations

from itertools import count
from typing import Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor


class Rows(Protocol):
    """An op on one tensor."""

    def compute(self, x: Tensor) -> Tensor:
        """Its result, in memory of its own."""

    def like(self, x: Tensor) -> Tensor:
        """A tensor with the result's shape and dtype, and any values."""


# an operator's arguments are tensors and plain values: an op is named by a number
_OPS: WeakValueDictionary[int, Rows] = WeakValueDictionary()
_NUMBERS = count()


def register(op: Rows) -> int:
    """The number by which the operator knows the op, as long as somebody else has it."""
    number = next(_NUMBERS)
    _OPS[number] = op
    return number


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
