"""Elementwise ops in pieces that stay in cache: tensors of equal layout are walked as one flat run."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fxq.runtime.integer.outputs import Output, output_dtype

_BUDGET = 1 << 16  # elements per thread whose f32 values stay in its second-level cache


def empty_result(operands: tuple[Tensor, ...], output: Output) -> Tensor:
    """Uninitialized, of the operands' broadcast shape and the output's dtype; channels_last operands give a channels_last result."""
    shape = torch.broadcast_shapes(*(operand.shape for operand in operands))  # type: ignore[no-untyped-call]
    like = next((operand for operand in operands if operand.shape == shape), None)
    dtype = output_dtype(output)
    return torch.empty(shape, dtype=dtype, device=operands[0].device) if like is None else torch.empty_like(like, dtype=dtype)


def flat_parts(out: Tensor, operands: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """(out, *operands) in flat pieces where all are dense and laid out alike, whole (to be broadcast) otherwise.

    Args:
        out: dense, as torch.empty_like makes it.
    """
    tensors = (out, *operands)
    if any(operand.shape != out.shape or operand.stride() != out.stride() for operand in operands):
        yield tensors
        return
    count, step = out.numel(), _BUDGET * torch.get_num_threads()
    flat = [tensor.as_strided((count,), (1,)) for tensor in tensors]
    for start in range(0, count, step):
        yield tuple(tensor[start : start + step] for tensor in flat)
