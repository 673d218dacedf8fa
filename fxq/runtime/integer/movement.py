"""Moving bytes where torch's own functions refuse uint8 and int8, or need what a quantized graph doesn't give them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.errors import DataError

Padding = tuple[tuple[int, int], ...]


def pad(x: Tensor, padding: Padding, mode: str = "zeros", value: int = 0) -> Tensor:
    """x with (before, after) more elements in each of its last len(padding) dimensions; negative numbers crop, with "zeros" only.

    Args:
        x: any dtype, at least len(padding) dimensions.
        padding: one (before, after) per padded dimension, outermost first.
        mode: "zeros" fills with `value`; "reflect", "replicate" and "circular" copy, as in torch.nn.functional.pad.
        value: the zero point, so that the border stands for 0.

    Returns:
        x itself where nothing is added.

    Raises:
        DataError: a border to copy is longer than there are elements.
    """
    if not any(before or after for before, after in padding):
        return x
    if mode == "zeros":
        return F.pad(x, [ends for pair in reversed(padding) for ends in pair], value=value)
    first = x.ndim - len(padding)
    for axis, (before, after) in enumerate(padding, first):
        if before or after:
            x = x.index_select(axis, _source(x.shape[axis], before, after, mode).to(x.device))
    return x


def _source(length: int, before: int, after: int, mode: str) -> Tensor:
    """Index of the element that each place of the padded dimension copies."""
    index = torch.arange(-before, length + after)
    if mode == "replicate":
        return index.clamp(0, length - 1)
    _check_border(max(before, after), length - 1 if mode == "reflect" else length, mode)
    if mode == "circular":
        return index % length
    return (length - 1) - ((length - 1) - index.abs()).abs()


def _check_border(border: int, available: int, mode: str) -> None:
    if border > available:
        raise DataError(
            f"pad, mode {mode!r}",
            expected=f"a border of at most {available} elements",
            found=str(border),
            remedy="give a larger input or a smaller padding",
        )
