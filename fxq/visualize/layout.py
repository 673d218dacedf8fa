"""Layered drawing of an acyclic graph (Sugiyama, Tagawa & Toda 1981): a layer for every box, and a place in it.

Layers are those of longest paths. A value that is read several layers below goes down one line through the layers between, which
all of its readers share: where fifty layers read everything before them, lines for each pair would fill the picture. The order
in the layers and the columns come from fast-sugiyama (Brandes & Köpf 2001); then columns are moved together, as lines need less
room than boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import networkx as nx

from fxq.errors import ConfigError

# distances between the middles of two boxes, a box and a line, and two lines, in widths of a box with its margin
_BOXES, _BOX_AND_LINE, _LINES = 1.0, 0.58, 0.1

Edge = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Where boxes and lines are.

    Attributes:
        layers: of every box, from 0.
        columns: the middle of every box, in widths of a box, 0 and more.
        lines: box → where the line that leaves it crosses the layers below, one after the other, if it is longer than one layer.
    """

    layers: tuple[int, ...]
    columns: tuple[float, ...]
    lines: Mapping[int, tuple[float, ...]]


@dataclass(frozen=True, order=True)
class _Point:
    """A box, or the crossing of a box's line with a layer."""

    layer: int
    box: int
    is_line: bool = False


@lru_cache(maxsize=1024)
def layered(boxes: int, edges: tuple[Edge, ...], narrow: frozenset[int] = frozenset()) -> Layout:
    """Places `boxes` boxes. Equal graphs are computed once: networks repeat their blocks.

    Args:
        edges: from a box to one with a larger number.
        narrow: boxes that take no more room than a line.
    """
    layers = _layers(boxes, edges, narrow)
    paths = _with_crossings(edges, layers)
    places = _places(paths, layers)
    columns = _compacted(places, narrow)
    lines: dict[int, list[float]] = {}
    for point in sorted(columns):
        if point.is_line:
            lines.setdefault(point.box, []).append(columns[point])
    middles = tuple(columns[_Point(layer, box)] for box, layer in enumerate(layers))
    return Layout(tuple(layers), middles, {box: tuple(line) for box, line in lines.items()})


def _layers(boxes: int, edges: Iterable[Edge], narrow: frozenset[int]) -> list[int]:
    """Longest paths from the top. What reads nothing stands right above its first reader, a narrow box at the top or the bottom."""
    graph: nx.DiGraph = nx.DiGraph(list(edges))
    graph.add_nodes_from(range(boxes))
    layers = [0] * boxes
    for number, generation in enumerate(nx.topological_generations(graph)):
        for box in generation:
            layers[box] = number
    for box in range(boxes):
        if box in narrow:
            layers[box] = 0 if graph.in_degree(box) == 0 else max(layers)
        elif graph.in_degree(box) == 0 and graph.out_degree(box):
            layers[box] = min(layers[reader] for reader in graph.successors(box)) - 1
    return layers


def _with_crossings(edges: Iterable[Edge], layers: list[int]) -> list[tuple[_Point, _Point]]:
    """Every edge as steps from one layer to the next; edges of one box share theirs as far as they go together."""
    steps: dict[tuple[_Point, _Point], None] = {}
    for source, target in edges:
        between = [_Point(layer, source, True) for layer in range(layers[source] + 1, layers[target])]
        ends = _Point(layers[source], source), _Point(layers[target], target)
        steps.update(dict.fromkeys(pairwise([ends[0], *between, ends[1]])))
    return list(steps)


def _places(steps: list[tuple[_Point, _Point]], layers: list[int]) -> dict[_Point, float]:
    """Columns of all points: connected parts side by side, then what is connected to nothing."""
    points = sorted({point for step in steps for point in step})
    number = {point: index for index, point in enumerate(points)}
    edges = [(number[source], number[target]) for source, target in steps]
    found: dict[_Point, float] = {}
    width = 0.0
    for positions in _components(edges):
        left = min(positions.values())
        found.update((points[index], x - left + width) for index, x in positions.items())
        width = max(found.values()) + _BOXES
    for alone in (_Point(layer, box) for box, layer in enumerate(layers)):
        if alone not in found:
            found[alone] = width
            width += _BOXES
    return found


def _components(edges: list[Edge]) -> list[dict[int, float]]:
    """For each connected part of a graph whose edges all go down one layer: point → column. Points of a layer are at least 1 apart."""
    if not edges:
        return []
    try:
        from fast_sugiyama import from_edges
    except ImportError as error:
        raise ConfigError(
            "the layout of a picture",
            expected="the package fast-sugiyama, which is installed with fxq on Python 3.11 and later",
            found=str(error),
            remedy="pip install fast-sugiyama, or use fxq.to_dot, whose text Graphviz lays out",
        ) from error
    found = from_edges(edges, vertex_spacing=_BOXES, dummy_size=_BOXES, ranking_type="minimize")
    return [{int(point): float(x) for point, (x, _) in positions} for positions, *_ in found]


def _compacted(places: Mapping[_Point, float], narrow: frozenset[int]) -> dict[_Point, float]:
    """Moves columns to the left as far as neighbours in a layer leave room. What is in one column stays in one."""
    columns: dict[float, list[_Point]] = {}
    for point in sorted(places, key=lambda point: (places[point], point)):
        columns.setdefault(round(places[point], 3), []).append(point)
    last: dict[int, _Point] = {}
    found: dict[_Point, float] = {}
    column = 0.0
    for points in columns.values():
        beside = ((last[point.layer], point) for point in points if point.layer in last)
        column = max([column, *(found[left] + _distance(left, point, narrow) for left, point in beside)])
        for point in points:
            found[point] = column
            last[point.layer] = point
    return found


def _distance(left: _Point, right: _Point, narrow: frozenset[int]) -> float:
    wide = sum(not (point.is_line or point.box in narrow) for point in (left, right))
    return (_LINES, _BOX_AND_LINE, _BOXES)[wide]
