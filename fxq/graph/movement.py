"""The float meaning of the canonical ops that compute nothing: elements change place, or only the shape is read.

Parameter names carry the roles, as in fxq.graph.functional.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after the other along dim."""
    return torch.cat(list(tensors), dim)


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Borders added to the last dimensions: `pad` is (before, after) pairs from the last dimension backwards."""
    return F.pad(input, list(pad), mode, value)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim..end_dim become one."""
    return torch.flatten(input, start_dim, end_dim)


def reshape(input: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements in another shape; also view."""
    return input.reshape(shape)


def permute(input: Tensor, dims: Sequence[int]) -> Tensor:
    """Dimensions in another order."""
    return torch.permute(input, tuple(dims))


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    return torch.transpose(input, dim0, dim1)


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Dimensions of size 1 removed."""
    return torch.squeeze(input) if dim is None else torch.squeeze(input, dim)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A dimension of size 1 inserted."""
    return torch.unsqueeze(input, dim)


def contiguous(input: Tensor) -> Tensor:
    """The same tensor in row-major order."""
    return input.contiguous()


def getitem(input: Tensor, index: Any) -> Tensor:
    """input[index] of a tensor."""
    element: Tensor = operator.getitem(input, index)
    return element


def narrow(input: Tensor, dim: int, start: Any, length: Any) -> Tensor:
    """`length` elements along dim, from `start` on."""
    return torch.narrow(input, dim, start, length)


def select(input: Tensor, dim: int, index: Any) -> Tensor:
    """One slice of input along dim, which goes."""
    return torch.select(input, dim, index)


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of input along dim that have these indices, [count]."""
    return torch.index_select(input, dim, index)


def setitem(input: Tensor, other: Any, index: Any) -> Tensor:
    """input with `other` in place of input[index]."""
    result = input.clone()
    result[index] = other
    return result


def fill(input: Tensor, value: Any) -> Tensor:
    """The value, in the shape of input."""
    return torch.empty_like(input).fill_(value)


def where(input: Any, other: Any, condition: Tensor) -> Tensor:
    """input where condition holds, other elsewhere; the three are broadcast. Also masked_fill."""
    return torch.where(condition, input, other)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors side by side along a new dimension."""
    return torch.stack(list(tensors), dim)


def chunk(input: Tensor, chunks: int, dim: int = 0, item: int = 0) -> Tensor:
    """One of the `chunks` parts, equally long but for the last, that input is cut into along dim."""
    return torch.chunk(input, chunks, dim)[item]


def split(input: Tensor, split_size: Any, dim: int = 0, item: int = 0) -> Tensor:
    """One of the parts of split_size elements, or of these sizes, that input is cut into along dim."""
    return torch.split(input, list(split_size) if isinstance(split_size, tuple) else split_size, dim)[item]


def tensor_split(input: Tensor, sections: Any, dim: int = 0, item: int = 0) -> Tensor:
    """One of so many parts, of sizes that differ by one at most, or of the parts that begin at these indices, along dim."""
    return torch.tensor_split(input, sections, dim)[item]


def unbind(input: Tensor, dim: int = 0, item: int = 0) -> Tensor:
    """One of the slices of input along dim, which goes."""
    return torch.unbind(input, dim)[item]


def pieces(input: Tensor, cut: str, by: tuple[Any, ...] = (), dim: int = 0) -> int:
    """How many parts chunk, split, tensor_split or unbind cut input into along dim; reads no element."""
    return len(_CUTS[cut](torch.empty(input.shape, device="meta"), *by, dim=dim))


_CUTS: Mapping[str, Callable[..., Sequence[Tensor]]] = {
    "chunk": torch.chunk,
    "split": torch.split,
    "tensor_split": torch.tensor_split,
    "unbind": torch.unbind,
}


def clone(input: Tensor) -> Tensor:
    """The same elements in memory of their own."""
    return input.clone()


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dimensions `source` at the places `destination`, the others in their order."""
    return torch.movedim(input, source, destination)


def repeat_interleave(input: Tensor, repeats: int, dim: int | None = None) -> Tensor:
    """Every element so many times in a row, along dim or of the flattened tensor."""
    return torch.repeat_interleave(input, repeats, dim)


def expand(input: Tensor, sizes: Sequence[int]) -> Tensor:
    """Dimensions of size 1 repeated without a copy; −1 keeps a size."""
    return input.expand(tuple(sizes))


def repeat(input: Tensor, repeats: Sequence[int]) -> Tensor:
    """The tensor tiled, so many times along each dimension."""
    return input.repeat(tuple(repeats))


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` elements along a dimension, each `step` behind the one before; what is in a window is a new last dimension."""
    return input.unfold(dimension, size, step)


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements shifted along dims; what leaves on one side enters on the other."""
    return torch.roll(input, shifts, dims)


def flip(input: Tensor, dims: Sequence[int]) -> Tensor:
    """Elements in reverse order along dims."""
    return torch.flip(input, tuple(dims))


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dimension becomes several."""
    return torch.unflatten(input, dim, tuple(sizes))


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """[*, C·r², H, W] → [*, C, H·r, W·r]"""
    return F.pixel_shuffle(input, upscale_factor)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """[*, C, H·r, W·r] → [*, C·r², H, W]"""
    return F.pixel_unshuffle(input, downscale_factor)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """[N, g·c, *] → [N, c·g, *]: channels of all groups in turn."""
    return F.channel_shuffle(input, groups)


def identity(input: Tensor) -> Tensor:
    """input"""
    return input


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """input when not training; elements zeroed with probability p when training."""
    return F.dropout(input, p, training)


def dim(input: Tensor) -> int:
    """The number of dimensions; reads no element."""
    return input.dim()


def device(input: Tensor) -> torch.device:
    """Where the elements are; reads none."""
    return input.device


def numel(input: Tensor) -> int:
    """How many elements there are."""
    return input.numel()


def size(input: Tensor, dim: int | None = None) -> Any:
    """The shape, or one number of it; reads no element."""
    return input.size() if dim is None else input.size(dim)
