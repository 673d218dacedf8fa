"""Elements by their index: x[index], and x[index] = other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Node

from fxq.export.site import Site
from fxq.graph.annotation import tensor_type

_TO_THE_END = 2**63 - 1


def getitem(site: Site) -> str:
    """input[index] of numbers, slices, None and ...: Slice, then Gather and Unsqueeze, from the last dimension on."""
    x, added = site.tensor("input"), []
    items = _explicit(site["index"], site.rank())
    axis = site.rank()
    for item in reversed(items):
        axis -= item is not None
        if isinstance(item, slice):
            x = _sliced(site, x, axis, item)
        elif isinstance(item, int):
            x = site.emit("Gather", x, site.writer.number(item, torch.int64), axis=axis)
        elif item is not None:
            raise site.refusal("an index of numbers, slices, None and ...", f"{item!r}", "select outside of the model")
    place = 0
    for item in items:
        if item is None:
            added.append(place)
        place += not isinstance(item, int)
    return site.emit("Unsqueeze", x, site.writer.sizes(added)) if added else x


def _explicit(index: Any, rank: int) -> list[Any]:
    """One item for each dimension, and one None for each that is new."""
    items = list(index) if isinstance(index, tuple | list) else [index]
    missing = rank - sum(item is not None and item is not Ellipsis for item in items)
    place = next((number for number, item in enumerate(items) if item is Ellipsis), len(items))
    return [*items[:place], *[slice(None)] * missing, *items[place + 1 :]]


def _sliced(site: Site, x: str, axis: int, item: slice) -> str:
    if item == slice(None):
        return x
    start, stop, step = item.start or 0, _TO_THE_END if item.stop is None else item.stop, item.step or 1
    return site.emit("Slice", x, site.size_list([start]), site.size_list([stop]), site.writer.sizes([axis]), site.writer.sizes([step]))


def setitem(site: Site) -> str:
    """x[index] = other. A mask: Where. Numbers and slices: Concat of what is in front, the part that changes, and what is behind."""
    index, x = site.operands["index"], site.tensor("input")
    if isinstance(index, Node) and _is_mask_for_number(site, index):
        return site.emit("Where", _to_rank(site, site.tensor("index"), site.rank("index")), site.tensor("other"), x)
    items = _explicit(index, site.rank())
    if any(not isinstance(item, int | slice) or (isinstance(item, slice) and item.step not in (None, 1)) for item in items):
        raise site.refusal("a mask, or an index of numbers, slices without a step and ...", f"{index!r}", "use torch.where or torch.cat")
    return _with_part(site, x, list(enumerate(items)), _beside_numbers(site, items))


def _is_mask_for_number(site: Site, index: Node) -> bool:
    found, other = tensor_type(index), site.operands["other"]
    return found is not None and found.dtype is torch.bool and (not isinstance(other, Node) or site.rank("other") == 0)


def _to_rank(site: Site, mask: str, rank: int) -> str:
    """With a dimension of one element for each behind those of the mask."""
    return site.emit("Unsqueeze", mask, site.writer.sizes(range(rank, site.rank()))) if rank < site.rank() else mask


def _beside_numbers(site: Site, items: Sequence[Any]) -> str:
    """What is written, with a dimension of one element for each that the index has a number for."""
    other, operand = site.tensor("other"), site.operands["other"]
    rank = site.rank("other") if isinstance(operand, Node) else 0
    kept = [axis for axis, item in enumerate(items) if isinstance(item, slice)]
    if rank > len(kept):
        raise site.refusal(f"at most {len(kept)} dimensions to write", f"{rank}", "drop those in front of them")
    own = kept[len(kept) - rank :]
    axes = [axis - own[0] for axis in range(own[0], len(items)) if axis not in own] if own else []
    return site.emit("Unsqueeze", other, site.writer.sizes(axes)) if axes else other


def _with_part(site: Site, x: str, items: Sequence[tuple[int, Any]], other: str) -> str:
    """x with `other` in the part that the items, of one axis each, select."""
    chosen = [(axis, item) for axis, item in items if item != slice(None)]
    if not chosen:
        return site.emit("Expand", other, site.emit("Shape", x))
    (axis, item), *rest = chosen
    length = site.length(axis)
    start, stop, _ = (item if isinstance(item, slice) else slice(item, item + 1 or None)).indices(length)
    changed = _with_part(site, site.slice(x, axis, start, stop), rest, other)
    front = [site.slice(x, axis, 0, start)] if start else []
    back = [site.slice(x, axis, stop, length)] if stop < length else []
    return site.emit("Concat", *front, changed, *back, axis=axis) if front or back else changed


def fill(site: Site) -> str:
    """The value, expanded to the shape of the input."""
    return site.emit("Expand", site.tensor("value"), site.emit("Shape", site.tensor("input")))


INDEXING: dict[str, Callable[[Site], Any]] = {"getitem": getitem, "setitem": setitem, "fill": fill}
