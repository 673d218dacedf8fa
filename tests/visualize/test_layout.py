"""Layouts: edges go down, boxes stand apart, lines are where their edges cross layers."""

from __future__ import annotations

import sys
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fxq
from fxq.visualize.layout import Edge, Layout, layered

NEAR = 1e-6


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, tuple[Edge, ...]]:
    boxes = draw(st.integers(1, 12))
    pairs = list(combinations(range(boxes), 2))
    return boxes, tuple(draw(st.lists(st.sampled_from(pairs), unique=True, max_size=25))) if pairs else ()


def _points(layout: Layout) -> list[tuple[int, float, bool]]:
    """(layer, column, whether it is a line) of everything."""
    boxes = [(layer, column, False) for layer, column in zip(layout.layers, layout.columns, strict=True)]
    lines = [(layout.layers[box] + 1 + step, column, True) for box, line in layout.lines.items() for step, column in enumerate(line)]
    return boxes + lines


@settings(deadline=None, max_examples=80)
@given(graphs())
def test_edges_go_down_and_nothing_overlaps(graph: tuple[int, tuple[Edge, ...]]) -> None:
    boxes, edges = graph
    layout = layered(boxes, edges)
    assert min(layout.columns) >= 0 and min(layout.layers) == 0
    for source, target in edges:
        assert layout.layers[source] < layout.layers[target]
        assert len(layout.lines.get(source, ())) >= layout.layers[target] - layout.layers[source] - 1
    for (layer, column, is_line), (other_layer, other_column, other_is_line) in combinations(_points(layout), 2):
        least = 0.1 if is_line and other_is_line else 0.58 if is_line or other_is_line else 1.0
        assert layer != other_layer or abs(column - other_column) >= least - NEAR


def test_chain_is_straight() -> None:
    layout = layered(4, ((0, 1), (1, 2), (2, 3)))
    assert layout == Layout((0, 1, 2, 3), (0.0, 0.0, 0.0, 0.0), {})


def test_skip_goes_beside_what_it_skips() -> None:
    layout = layered(4, ((0, 1), (1, 2), (2, 3), (0, 3)))
    assert layout.layers == (0, 1, 2, 3)
    assert set(layout.lines) == {0} and len(layout.lines[0]) == 2
    assert all(abs(line - layout.columns[1]) >= 0.58 - NEAR for line in layout.lines[0])


def test_readers_of_one_value_share_its_line() -> None:
    every = tuple(combinations(range(20), 2))
    layout = layered(20, every)
    assert sum(map(len, layout.lines.values())) == sum(range(19))
    assert max(layout.columns) < 4


def test_what_reads_nothing_stands_above_its_reader() -> None:
    assert layered(4, ((0, 1), (1, 3), (2, 3))).layers == (0, 1, 1, 2)


def test_narrow_boxes_are_the_ends() -> None:
    layout = layered(5, ((0, 2), (1, 2), (2, 3), (1, 4)), frozenset((0, 4)))
    assert layout.layers == (0, 0, 1, 2, 2)


def test_parts_that_are_not_connected_stand_side_by_side() -> None:
    layout = layered(5, ((0, 1), (2, 3)))
    assert sorted(layout.columns) == [0.0, 0.0, 1.0, 1.0, 2.0]


def test_missing_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_sugiyama", None)
    with pytest.raises(fxq.ConfigError, match="pip install fast-sugiyama"):
        layered(3, ((0, 1), (0, 2)), frozenset((2,)))
