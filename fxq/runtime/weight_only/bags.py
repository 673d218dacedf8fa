"""Which rows of a table come together, in torch's terms and as plain lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Mode = Literal["sum", "mean", "max"]


@dataclass(frozen=True)
class Bags:
    """How rows come together, in torch's terms.

    Attributes:
        mode: what is made of the rows of a bag.
        include_last_offset: the offsets end with the number of indices.
        padding_idx: a row that counts in no bag; None: all count.
    """

    mode: Mode
    include_last_offset: bool = False
    padding_idx: int | None = None


@dataclass(frozen=True, eq=False)
class BagsOfRows:
    """Lists of rows, contiguous.

    Attributes:
        indices: i64 [n], of rows that there are.
        offsets: i64 [bags + 1], from 0 to n: where each bag begins, and ends.
        factors: f32 [n], of the rows; None: all count once.
    """

    indices: Tensor
    offsets: Tensor
    factors: Tensor | None


def read_bags(bags: Bags, rows: int, input: Tensor, offsets: Tensor | None, factors: Tensor | None) -> BagsOfRows | None:
    """What F.embedding_bag is given, as lists; None of anything that it refuses, or that is unusual.

    Args:
        rows: how many there are.
    """
    if (input.ndim, offsets is None) not in ((1, False), (2, True)) or not are_rows(input, rows):
        return None
    if factors is not None and (bags.mode != "sum" or factors.shape != input.shape):
        return None
    ends = np.arange(len(input) + 1) * input.shape[1] if offsets is None else _ends(bags, offsets, input.numel())
    if ends is None:
        return None
    indices = input.reshape(-1).to(torch.int64).contiguous()
    if factors is not None:
        factors = factors.detach().reshape(-1).to(torch.float32).contiguous()
    found = BagsOfRows(indices, torch.from_numpy(ends), factors)
    return found if bags.padding_idx is None else _without(indices == bags.padding_idx, found)


def are_rows(indices: Tensor, rows: int) -> bool:
    """All are numbers of rows that there are."""
    return not indices.numel() or (int(indices.min()) >= 0 and int(indices.max()) < rows)


def _ends(bags: Bags, offsets: Tensor, count: int) -> NDArray[np.int64] | None:
    """Where bags end, from 0 to the number of indices, never falling; None of others."""
    if offsets.ndim != 1 or not len(offsets):
        return None
    ends = np.empty(len(offsets) + (not bags.include_last_offset), np.int64)
    ends[-1] = count
    ends[: len(offsets)] = offsets.numpy()
    return ends if ends[0] == 0 and ends[-1] == count and bool((ends[1:] >= ends[:-1]).all()) else None


def _without(left_out: Tensor, bags: BagsOfRows) -> BagsOfRows:
    """Bags without some of their rows."""
    before = torch.nn.functional.pad((~left_out).cumsum(0), (1, 0))
    return BagsOfRows(bags.indices[~left_out], before[bags.offsets], None if bags.factors is None else bags.factors[~left_out])
