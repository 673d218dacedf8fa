"""A graph as an SVG picture, for documents: every node, in layers, without frames."""

from __future__ import annotations

from html import escape
from itertools import pairwise

from fxq.graph.module import FxqModule
from fxq.visualize.dot import COLOURS
from fxq.visualize.layout import Layout, layered
from fxq.visualize.picture import Arrow, Box, draw

_WIDTH, _HEIGHT, _COLUMN, _LAYER, _MARGIN = 210, 58, 240, 94, 14
_LETTERS = 36  # that fit into a box

_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" \
font-family="Helvetica, Arial, sans-serif" font-size="10">
<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" markerUnits="userSpaceOnUse">\
<path d="M0,1 L8,4 L0,7 z" fill="#777777"/></marker></defs>
<rect width="{width}" height="{height}" fill="#ffffff"/>
"""


def to_svg(model: FxqModule) -> str:
    """model → SVG text, at any stage: what `to_dot` draws, laid out by fxq. A graph of hundreds of nodes is better seen by `visualize`.

    Raises:
        StageError: the model is not one of fxq's.
        ConfigError: the package that lays graphs out is missing.
    """
    picture = draw(model)
    number = {box.name: index for index, box in enumerate(picture.boxes)}
    edges = tuple(dict.fromkeys((number[arrow.source], number[arrow.target]) for arrow in picture.arrows))
    layout = layered(len(picture.boxes), edges)
    widest = max((*layout.columns, *(x for line in layout.lines.values() for x in line)))
    width, height = round(widest * _COLUMN + _WIDTH + 2 * _MARGIN), max(layout.layers) * _LAYER + _HEIGHT + 2 * _MARGIN
    arrows = [_arrow(arrow, number[arrow.source], number[arrow.target], layout) for arrow in picture.arrows]
    boxes = [_box(box, index, layout) for index, box in enumerate(picture.boxes)]
    return "".join((_HEAD.format(width=width, height=height), *arrows, *boxes, "</svg>\n"))


def _middle(column: float) -> float:
    return column * _COLUMN + _WIDTH / 2 + _MARGIN


def _top(layer: int) -> int:
    return layer * _LAYER + _MARGIN


def _box(box: Box, index: int, layout: Layout) -> str:
    x, y = _middle(layout.columns[index]), _top(layout.layers[index])
    left = x - _WIDTH / 2
    face = f'<rect x="{left:.1f}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="7" fill="{COLOURS[box.kind]}" stroke="#555555"/>'
    lines = [
        f'<text x="{x:.1f}" y="{y + 17 + 15 * number}" text-anchor="middle"{_WEIGHT if number == 0 else ""}>{escape(_clipped(line))}</text>'
        for number, line in enumerate(box.lines)
    ]
    return f"<g><title>{escape(box.detail)}</title>{face}{''.join(lines)}</g>\n"


_WEIGHT = ' font-weight="bold" font-size="11"'


def _clipped(line: str) -> str:
    return line if len(line) <= _LETTERS else f"{line[: _LETTERS - 1]}…"


def _arrow(arrow: Arrow, source: int, target: int, layout: Layout) -> str:
    """Down to the next layer in a curve, and straight through the layers between."""
    first, last = layout.layers[source], layout.layers[target]
    points = [(_middle(layout.columns[source]), _top(first) + _HEIGHT)]
    for layer, column in zip(range(first + 1, last), layout.lines.get(source, ()), strict=False):
        points += [(_middle(column), _top(layer)), (_middle(column), _top(layer) + _HEIGHT)]
    points.append((_middle(layout.columns[target]), _top(last)))
    steps = (f"C{x:.1f},{(y + v) / 2:.1f} {u:.1f},{(y + v) / 2:.1f} {u:.1f},{v:.1f}" for (x, y), (u, v) in pairwise(points))
    (x, y), width = points[0], 2 if arrow.is_int8 else 1
    label = f'<text x="{x + 6:.1f}" y="{y + 13}" font-size="9" fill="#666666">{escape(arrow.label)}</text>' if arrow.label else ""
    return f'<path d="M{x:.1f},{y} {" ".join(steps)}" fill="none" stroke="#777777" stroke-width="{width}" marker-end="url(#a)"/>{label}\n'
