"""Ops that only move elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fxq.export.site import Shape, Site
from fxq.export.sizes import Size
from fxq.graph import movement

_PAD_MODES = {"constant": "constant", "zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_TO_THE_FRONT = -(2**31)  # as the end of a slice that runs backwards


def pad(site: Site) -> str:
    """Pad; torch's borders start at the last dimension."""
    given = list(site["pad"])
    pairs = [(given[place], given[place + 1]) for place in range(0, len(given), 2)]
    rest = site.rank() - len(pairs)
    return add_borders(site, site.tensor("input"), [(0, 0)] * rest + pairs[::-1], site["mode"], site["value"] or 0.0)


def add_borders(site: Site, x: str, pairs: Sequence[tuple[int, int]], mode: str, value: float = 0.0) -> str:
    """(before, after) elements for each dimension."""
    if mode == "circular":
        site.needs_opset(19, "circular borders")
    borders = site.writer.sizes([before for before, _ in pairs] + [after for _, after in pairs])
    constant = (site.writer.number(value),) if _PAD_MODES[mode] == "constant" else ()
    return site.emit("Pad", x, borders, *constant, mode=_PAD_MODES[mode])


def cat(site: Site) -> str:
    """Concat"""
    return site.emit("Concat", *map(site.read, site["tensors"]), axis=site["dim"])


def stack(site: Site) -> str:
    """Concat of tensors with a dimension more."""
    dim = site["dim"] % len(site.shape)
    tensors = [site.emit("Unsqueeze", site.read(each), site.writer.sizes([dim])) for each in site["tensors"]]
    return site.emit("Concat", *tensors, axis=dim)


def chunk(site: Site) -> str:
    """Slice: one of so many parts."""
    dim = site["dim"] % site.rank()
    size = math.ceil(site.length(dim) / site["chunks"])
    parts = math.ceil(site.length(dim) / size)
    return _part(site, dim, site["item"] % parts * size, size)


def split(site: Site) -> str:
    """Slice: one of the parts of a given size, or of given sizes."""
    dim, sizes, item = site["dim"] % site.rank(), site["split_size"], site["item"]
    if isinstance(sizes, tuple | list):
        return _part(site, dim, sum(sizes[: item % len(sizes)]), sizes[item])
    parts = math.ceil(site.length(dim) / sizes)
    return _part(site, dim, item % parts * sizes, sizes)


def _part(site: Site, dim: int, start: int, size: int) -> str:
    return site.slice(site.tensor("input"), dim, start, min(start + size, site.length(dim)))


def tensor_split(site: Site) -> str:
    """Slice: one of so many parts, the first ones one longer, or of the parts that begin at these places."""
    dim, sections = site["dim"] % site.rank(), site["sections"]
    length = site.length(dim)
    if isinstance(sections, int):
        size, longer = divmod(length, sections)
        sections = [place * size + min(place, longer) for place in range(1, sections)]
    bounds = [0, *sections, length]
    item = site["item"] % (len(bounds) - 1)
    return site.slice(site.tensor("input"), dim, bounds[item], bounds[item + 1])


def unbind(site: Site) -> str:
    """Gather: one of the slices."""
    return site.emit("Gather", site.tensor("input"), _index(site, site["item"]), axis=site["dim"])


def select(site: Site) -> str:
    """Gather: one of the slices."""
    return site.emit("Gather", site.tensor("input"), _index(site, site["index"]), axis=site["dim"])


def index_select(site: Site) -> str:
    """Gather"""
    return site.emit("Gather", site.tensor("input"), site.tensor("index"), axis=site["dim"])


def narrow(site: Site) -> str:
    """Slice"""
    dim, length = site["dim"] % site.rank(), site["length"]
    start = site["start"] % site.length(dim)
    return site.slice(site.tensor("input"), dim, start, start + length)


def where(site: Site) -> str:
    """Where, with the condition in front."""
    return site.emit("Where", site.tensor("condition"), site.tensor("input"), site.tensor("other"))


def _index(site: Site, index: int) -> str:
    return site.writer.number(index, torch.int64)


def to_result_shape(site: Site) -> str:
    """Reshape to the shape that the result has; the size of the batch follows from the rest."""
    return site.reshape(site.tensor("input"), site.shape)


def permute(site: Site) -> str:
    """Transpose"""
    return site.emit("Transpose", site.tensor("input"), perm=[dim % site.rank() for dim in site["dims"]])


def transpose(site: Site) -> str:
    """Transpose of two dimensions."""
    order = list(range(site.rank()))
    first, second = site["dim0"] % site.rank(), site["dim1"] % site.rank()
    order[first], order[second] = second, first
    return site.emit("Transpose", site.tensor("input"), perm=order)


def squeeze(site: Site) -> str:
    """Squeeze of the dimensions that have one element."""
    given = site["dim"]
    dims = range(site.rank()) if given is None else given if isinstance(given, tuple | list) else (given,)
    axes = sorted(dim % site.rank() for dim in dims if site.shape_of()[dim] == 1)
    x = site.tensor("input")
    return site.emit("Squeeze", x, site.writer.sizes(axes)) if axes else x


def unsqueeze(site: Site) -> str:
    """Unsqueeze"""
    return site.emit("Unsqueeze", site.tensor("input"), site.writer.sizes([site["dim"] % len(site.shape)]))


def movedim(site: Site) -> str:
    """Transpose"""
    sources, targets = ([dim % site.rank() for dim in _as_tuple(site[name])] for name in ("source", "destination"))
    rest = iter(dim for dim in range(site.rank()) if dim not in sources)
    moved = dict(zip(targets, sources, strict=True))
    return site.emit("Transpose", site.tensor("input"), perm=[moved[dim] if dim in moved else next(rest) for dim in range(site.rank())])


def repeat_interleave(site: Site) -> str:
    """Gather of indices that are repeated."""
    x, dim = site.tensor("input"), site["dim"]
    if dim is None:
        x, dim, length = site.reshape(x, [-1]), 0, math.prod(site.length(axis) for axis in range(site.rank()))
    else:
        length = site.length(dim)
    indices = site.writer.sizes([place for place in range(length) for _ in range(site["repeats"])])
    return site.emit("Gather", x, indices, axis=dim)


def expand(site: Site) -> str:
    """Expand, where a dimension that is kept is asked for as 1."""
    sizes = [1 if isinstance(size, int) and size == -1 else size for size in site["sizes"]]
    return site.emit("Expand", site.tensor("input"), site.size_list(sizes))


def repeat(site: Site) -> str:
    """Tile, with the dimensions that are new in front."""
    x, repeats = site.tensor("input"), site["repeats"]
    added = len(repeats) - site.rank()
    if added:
        x = site.emit("Unsqueeze", x, site.writer.sizes(range(added)))
    return site.emit("Tile", x, site.size_list(repeats))


def roll(site: Site) -> str:
    """What leaves on one side enters on the other: Concat of two Slices, for each dimension."""
    shifts, dims, x = _as_tuple(site["shifts"]), site["dims"], site.tensor("input")
    if dims is None:
        lengths = [site.length(axis) for axis in range(site.rank())]
        return site.reshape(_rolled(site, site.reshape(x, [-1]), (shifts[0], 0, math.prod(lengths))), site.shape)
    for shift, dim in zip(shifts, _as_tuple(dims), strict=True):
        axis = dim % site.rank()
        x = _rolled(site, x, (shift, axis, site.length(axis)))
    return x


def _rolled(site: Site, x: str, how: tuple[int, int, int]) -> str:
    shift, axis, length = how
    start = -shift % length
    if start == 0:
        return x
    return site.emit("Concat", site.slice(x, axis, start, length), site.slice(x, axis, 0, start), axis=axis)


def _as_tuple(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def flip(site: Site) -> str:
    """Slice, backwards."""
    x = site.tensor("input")
    for dim in _as_tuple(site["dims"]):
        x = site.slice(x, dim % site.rank(), -1, _TO_THE_FRONT, -1)
    return x


def unfold(site: Site) -> str:
    """Gather of all windows, whose elements then go to the end."""
    dim, size = site["dimension"] % site.rank(), site["size"]
    windows = [[start + place for place in range(size)] for start in range(0, site.length(dim) - size + 1, site["step"])]
    gathered = site.emit("Gather", site.tensor("input"), site.writer.number(windows, torch.int64), axis=dim)
    others = [axis for axis in range(site.rank() + 1) if axis != dim + 1]
    return site.emit("Transpose", gathered, perm=[*others, dim + 1])


def pixel_shuffle(site: Site) -> str:
    """[N, C·r², H, W] → [N, C, r, r, H, W] → [N, C, H, r, W, r] → [N, C, H·r, W·r]"""
    factor = site["upscale_factor"]
    *leading, _, height, width = site.shape_of()
    parts = (*leading, site.length(-3) // factor**2, factor, factor, height, width)
    return _in_parts(site, parts, (0, 3, 1, 4, 2))


def pixel_unshuffle(site: Site) -> str:
    """[N, C, H·r, W·r] → [N, C, H, r, W, r] → [N, C, r, r, H, W] → [N, C·r², H, W]"""
    factor = site["downscale_factor"]
    *leading, channels, _, _ = site.shape_of()
    parts = (*leading, channels, site.length(-2) // factor, factor, site.length(-1) // factor, factor)
    return _in_parts(site, parts, (0, 2, 4, 1, 3))


def channel_shuffle(site: Site) -> str:
    """[N, g·c, ...] → [N, g, c, ...] → [N, c, g, ...] → [N, c·g, ...]"""
    batch, _, *spatial = site.shape_of()
    parts = (batch, site["groups"], site.length(1) // site["groups"], *spatial)
    return _in_parts(site, parts, (1, 0, *range(2, 2 + len(spatial))))


def _in_parts(site: Site, parts: Shape, order: Sequence[int]) -> str:
    """Reshape to the parts, Transpose of the last of them, Reshape to the result."""
    leading = len(parts) - len(order)
    perm = [*range(leading), *(leading + place for place in order)]
    return site.reshape(site.emit("Transpose", site.reshape(site.tensor("input"), parts), perm=perm), site.shape)


def unchanged(site: Site) -> Any:
    """The input itself."""
    return site["input"]


def dropout(site: Site) -> Any:
    """The input itself, in evaluation."""
    if site["training"]:
        raise site.refusal("dropout in evaluation", "dropout in training", "call model.eval() before")
    return site["input"]


# --- shapes, which are Python --------------------------------------------------------------------------------------------


def dim(site: Site) -> int:
    """The number of dimensions."""
    return site.rank()


def numel(site: Site) -> Any:
    """How many elements there are: computed in the model where it depends on the batch."""
    return math.prod(_length(site, axis) for axis in range(site.rank()))


def pieces(site: Site) -> int:
    """How many parts a dimension is cut into, which is as long as in the example."""
    dim = site["dim"] % site.rank()
    like = torch.empty([site.length(axis) if axis == dim else 1 for axis in range(site.rank())], device="meta")
    return movement.pieces(like, site["cut"], site["by"], dim)


def device(site: Site) -> torch.device:
    """Where the model was when it was exported: an argument of what makes tensors, which become constants."""
    return torch.device("cpu")


def size(site: Site) -> Any:
    """The shape, or one number of it: computed in the model where it depends on the batch."""
    sizes = [_length(site, axis) for axis in range(site.rank())] if site["dim"] is None else None
    return _length(site, site["dim"] % site.rank()) if sizes is None else tuple(sizes)


def _length(site: Site, axis: int) -> int | Size:
    found = site.shape_of()[axis]
    if found is not None:
        return found
    return Size(site.writer, site.emit("Shape", site.tensor("input"), start=axis, end=axis + 1))


MOVEMENT: dict[str, Callable[[Site], Any]] = {
    "cat": cat,
    "pad": pad,
    "stack": stack,
    "chunk": chunk,
    "split": split,
    "tensor_split": tensor_split,
    "unbind": unbind,
    "narrow": narrow,
    "select": select,
    "index_select": index_select,
    "where": where,
    "flatten": to_result_shape,
    "reshape": to_result_shape,
    "unflatten": to_result_shape,
    "permute": permute,
    "movedim": movedim,
    "transpose": transpose,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "expand": expand,
    "repeat": repeat,
    "repeat_interleave": repeat_interleave,
    "roll": roll,
    "flip": flip,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "channel_shuffle": channel_shuffle,
    "contiguous": unchanged,
    "clone": unchanged,
    "identity": unchanged,
    "dropout": dropout,
    "unfold": unfold,
    "pieces": pieces,
    "device": device,
    "dim": dim,
    "numel": numel,
    "size": size,
}
