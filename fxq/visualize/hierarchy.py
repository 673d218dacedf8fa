"""Modules as frames around nodes: which boxes are in which frame, and where in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise, takewhile

from fxq.report.wording import short_type
from fxq.visualize.cards import Card
from fxq.visualize.layout import Layout, layered


@dataclass(frozen=True)
class Frame:
    """A module with calls in it, or a compiled region.

    Attributes:
        path: "" for the model itself.
        type: of the module, where one of its own calls tells it; else "".
        boxes: numbers of cards and paths of frames in it, in order of execution.
        layout: of the point where values come in, the boxes, and the point where values go out.
    """

    path: str
    type: str
    boxes: tuple[int | str, ...]
    layout: Layout


def make_frames(cards: tuple[Card, ...]) -> tuple[Frame, ...]:
    """The frames of all modules with at least two boxes, outer ones first. A module with a single one needs no frame."""
    inside = _boxes_by_frame([card.scope for card in cards])
    way = _ways(inside)
    edges: dict[str, dict[_Edge, None]] = {path: {} for path in inside}
    number = {card.id: index for index, card in enumerate(cards)}
    for reader, card in enumerate(cards):
        for operand in (number[read] for read in card.reads if read in number):
            for path, edge in _parts(way[operand], way[reader]):
                edges[path][edge] = None
    types = {
        origin.module: short_type(origin.module_type)
        for card in cards
        for origin in card.origins
        if origin.object_type != origin.module_type
    }
    return tuple(_frame(path, types.get(path, ""), boxes, edges[path]) for path, boxes in inside.items())


@dataclass(frozen=True)
class _Edge:
    """From a box of a frame to another one; None is where values come into the frame, and where they leave it."""

    source: int | str | None
    target: int | str | None


def _boxes_by_frame(scopes: Iterable[str]) -> dict[str, list[int | str]]:
    """Path of a frame → the boxes in it, as they come. What is alone in a module stands in the frame around that."""
    inside: dict[str, dict[int | str, None]] = {"": {}}
    for number, scope in enumerate(scopes):
        parent = ""
        for path in accumulate(filter(None, scope.split(".")), "{}.{}".format):
            inside[parent][path] = None
            inside.setdefault(path, {})
            parent = path
        inside[parent][number] = None

    def shown(box: int | str) -> int | str:
        while isinstance(box, str) and len(inside[box]) == 1:
            box = next(iter(inside[box]))
        return box

    found: dict[str, list[int | str]] = {}
    waiting = [""]
    while waiting:
        path = waiting.pop()
        found[path] = list(map(shown, inside[path]))
        waiting += [box for box in reversed(found[path]) if isinstance(box, str)]
    return found


def _ways(inside: Mapping[str, list[int | str]]) -> dict[int, tuple[str | int, ...]]:
    """Number of a card → the frames around it, outermost first, and the card itself."""
    found: dict[int, tuple[str | int, ...]] = {}
    waiting: list[tuple[str | int, ...]] = [("",)]
    while waiting:
        way = waiting.pop()
        for box in inside[str(way[-1])]:
            if isinstance(box, int):
                found[box] = (*way, box)
            else:
                waiting.append((*way, box))
    return found


def _parts(source: tuple[str | int, ...], target: tuple[str | int, ...]) -> Iterator[tuple[str, _Edge]]:
    """(frame, edge in it) on the way of a value: out of the frames around its source, and into those around its reader."""
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(source, target, strict=False)))
    yield str(source[common - 1]), _Edge(source[common], target[common])
    for frame, box in pairwise(source[common:]):
        yield str(frame), _Edge(box, None)
    for frame, box in pairwise(target[common:]):
        yield str(frame), _Edge(None, box)


def _frame(path: str, kind: str, boxes: list[int | str], edges: Iterable[_Edge]) -> Frame:
    """Point 0 is where values come in, the last one where they go out. Calls of a module between those of another make a circle."""
    place = {box: number for number, box in enumerate(boxes, start=1)}
    out = len(boxes) + 1
    pairs = ((0 if edge.source is None else place[edge.source], out if edge.target is None else place[edge.target]) for edge in edges)
    forward = tuple(dict.fromkeys((min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]))
    return Frame(path, kind, tuple(boxes), layered(out + 1, forward, frozenset((0, out))))
