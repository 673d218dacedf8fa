"""Arguments of a call as JSON. What JSON has stands for itself; for everything else there is an object with one key:

{"node": "conv1"}   {"tuple": [1, 2]}   {"dict": [["out", {"node": "conv1"}]]}   {"slice": [0, null, 2]}
{"number": "inf"}   {"dtype": "float32"}   {"device": "cpu"}   {"memory_format": "channels_last"}   {"ellipsis": true}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from pydantic import JsonValue
from torch.fx import Node

_PLAIN = (bool, int, str, type(None))
_KEYS = (bool, int, float, str, type(None))
_LARGEST = 2**63
_NUMBERS = ("inf", "-inf", "nan")

# torch's constants by the names they have there
TORCH_DTYPES = {str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
_MEMORY_FORMATS = {
    name: getattr(torch, name) for name in ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d")
}  # fmt: skip


class UnknownValue(Exception):
    """A value that files have no form for, or JSON that stands for none. The message says which."""


# --- to JSON ---------------------------------------------------------------------------------------------------------------


def to_json(value: Any) -> JsonValue:
    """An argument as JSON.

    Raises:
        UnknownValue: it is, or holds, something else than nodes, numbers, strings, torch's dtypes and the like.
    """
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise UnknownValue("an integer of more than 64 bits")
    if isinstance(value, _PLAIN) or (type(value) is float and math.isfinite(value)):
        return value
    if isinstance(value, list):
        return [to_json(item) for item in value]
    for kind, tag, form in _FORMS:
        if type(value) is kind or (kind is not tuple and isinstance(value, kind)):
            return {tag: form(value)}
    raise UnknownValue(f"a {type(value).__module__}.{type(value).__qualname__}")


def _items(values: Iterable[Any]) -> JsonValue:
    return [to_json(item) for item in values]


def _pairs(value: Mapping[Any, Any]) -> JsonValue:
    return [[to_json(key), to_json(item)] for key, item in value.items()]


def _own_name(value: Any) -> JsonValue:
    return str(value).removeprefix("torch.")


_FORMS: tuple[tuple[type, str, Callable[[Any], JsonValue]], ...] = (
    (Node, "node", lambda node: node.name),
    (tuple, "tuple", _items),
    (torch.Size, "tuple", _items),
    (dict, "dict", _pairs),
    (slice, "slice", lambda value: _items((value.start, value.stop, value.step))),
    (float, "number", str),
    (torch.dtype, "dtype", _own_name),
    (torch.device, "device", str),
    (torch.memory_format, "memory_format", _own_name),
    (type(Ellipsis), "ellipsis", lambda _: True),
)


# --- from JSON -------------------------------------------------------------------------------------------------------------


def from_json(value: JsonValue, nodes: Mapping[str, Node]) -> Any:
    """The argument that JSON stands for.

    Args:
        nodes: those that come before, by name.

    Raises:
        UnknownValue: the JSON stands for none.
    """
    if isinstance(value, list):
        return [from_json(item, nodes) for item in value]
    if not isinstance(value, dict):
        if type(value) is int and not -_LARGEST <= value < _LARGEST:
            raise UnknownValue("an integer of more than 64 bits")
        return value
    if len(value) != 1:
        raise UnknownValue(f"an object with {len(value)} keys")
    ((tag, content),) = value.items()
    read = _READERS.get(tag)
    if read is None:
        raise UnknownValue(f"an object {tag[:40]!r}")
    return read(content, nodes)


def _node(content: JsonValue, nodes: Mapping[str, Node]) -> Node:
    return _named(content, nodes)  # type: ignore[no-any-return]


def _named(content: JsonValue, table: Mapping[str, Any]) -> Any:
    if not isinstance(content, str) or content not in table:
        raise UnknownValue(f"the name {str(content)[:100]!r}, which nothing has")
    return table[content]


def _list(content: JsonValue, nodes: Mapping[str, Node]) -> list[Any]:
    if not isinstance(content, list):
        raise UnknownValue(f"{str(content)[:40]} in place of a list")
    return [from_json(item, nodes) for item in content]


def _dict(content: JsonValue, nodes: Mapping[str, Node]) -> dict[Any, Any]:
    pairs = _list(content, nodes)
    if not all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], _KEYS) for pair in pairs):
        raise UnknownValue("a dict that is no list of pairs")
    return dict(pairs)


def _slice(content: JsonValue, nodes: Mapping[str, Node]) -> slice:
    parts = _list(content, nodes)
    if len(parts) != 3 or not all(part is None or isinstance(part, int | Node) for part in parts):
        raise UnknownValue("a slice without three numbers")
    return slice(*parts)


def _number(content: JsonValue, nodes: Mapping[str, Node]) -> float:
    return float(_named(content, {name: name for name in _NUMBERS}))


def _device(content: JsonValue, nodes: Mapping[str, Node]) -> torch.device:
    try:
        return torch.device(str(content)[:40])
    except RuntimeError:
        raise UnknownValue(f"the device {str(content)[:40]!r}") from None


_READERS: Mapping[str, Callable[[JsonValue, Mapping[str, Node]], Any]] = {
    "node": _node,
    "tuple": lambda content, nodes: tuple(_list(content, nodes)),
    "dict": _dict,
    "slice": _slice,
    "number": _number,
    "dtype": lambda content, nodes: _named(content, TORCH_DTYPES),
    "device": _device,
    "memory_format": lambda content, nodes: _named(content, _MEMORY_FORMATS),
    "ellipsis": lambda content, nodes: ...,
}
