"""What a traced graph says of the size of images: x.shape[2:], x.size(3)."""

from __future__ import annotations

import operator
from typing import Any

from torch.fx import Node

from fxq.graph.annotation import tensor_type


def are_of_image(sizes: Any, image: Node, rank: int) -> bool:
    """Whether `sizes` are all spatial sizes of an image of that rank, whatever they are: x.shape[2:], or (x.size(2), x.shape[3])."""
    found = tensor_type(image)
    if found is None:
        return False
    places = tuple(range(len(found.shape)))
    given = (sizes,) if rank == 1 and isinstance(sizes, Node) and not is_tuple_of_sizes(sizes) else sizes
    if isinstance(given, Node):
        return bool(_places(given, image, places) == places[-rank:])
    return isinstance(given, tuple | list) and tuple(_places(size, image, places) for size in given) == places[-rank:]


def is_tuple_of_sizes(value: Any) -> bool:
    """Whether a node makes several sizes: x.shape, x.size(), and slices of them."""
    if not isinstance(value, Node):
        return False
    if value.target is operator.getitem:
        return isinstance(value.args[1], slice) and is_tuple_of_sizes(value.args[0])
    if value.target is getattr:
        return bool(value.args[1] == "shape")
    return value.target == "size" and len(value.args) == 1 and not value.kwargs


def _places(size: Any, image: Node, places: tuple[int, ...]) -> Any:
    """Which dimensions of the image a size is that of: one, or several; None for all other values."""
    if not isinstance(size, Node):
        return None
    if size.target is operator.getitem:
        made = _places(size.args[0], image, places)
        return made[size.args[1]] if isinstance(made, tuple) and isinstance(size.args[1], int | slice) else None
    if not size.args or size.args[0] is not image:
        return None
    if is_tuple_of_sizes(size):
        return places
    dim = size.args[1] if size.target == "size" and len(size.args) == 2 else None
    return places[dim] if isinstance(dim, int) else None
