"""Frames: modules with several boxes, and values on their way through them."""

from __future__ import annotations

from fxq.report.kinds import Kind
from fxq.visualize.cards import Card
from fxq.visualize.hierarchy import Frame, make_frames


def cards(*rows: tuple[str, str, str]) -> tuple[Card, ...]:
    """(id, scope, ids that it reads)"""
    return tuple(Card(name, scope, Kind.INT8, name, "", "", "", tuple(reads.split())) for name, scope, reads in rows)


def frames(*rows: tuple[str, str, str]) -> dict[str, Frame]:
    return {frame.path: frame for frame in make_frames(cards(*rows))}


def test_modules_with_several_boxes_are_frames() -> None:
    found = frames(("x", "", ""), ("a1", "a", "x"), ("a2", "a", "a1"), ("b1", "a.b", "a2"), ("b2", "a.b", "b1"), ("y", "", "b2"))
    assert {path: frame.boxes for path, frame in found.items()} == {"": (0, "a", 5), "a": (1, 2, "a.b"), "a.b": (3, 4)}


def test_what_is_alone_in_a_module_needs_no_frame() -> None:
    found = frames(("x", "", ""), ("c1", "a.b.c", "x"), ("c2", "a.b.c", "c1"), ("d", "d.e", "c2"))
    assert {path: frame.boxes for path, frame in found.items()} == {"": (0, "a.b.c", 3), "a.b.c": (1, 2)}


def test_values_come_in_at_the_top_and_leave_at_the_bottom() -> None:
    found = frames(("x", "", ""), ("a1", "a", "x"), ("a2", "a", "a1 x"), ("y", "", "a1 a2"))
    assert found["a"].layout.layers == (0, 1, 2, 3)  # in, a1, a2, out
    assert set(found["a"].layout.lines) == {0, 1}  # x goes round a1, and a1 round a2
    assert found[""].layout.layers[1:4] == (0, 1, 2)


def test_module_that_is_left_and_entered_again_makes_no_circle() -> None:
    found = frames(("a1", "a", ""), ("m", "", "a1"), ("a2", "a", "m"), ("y", "", "a2"))
    assert found[""].boxes == ("a", 1, 3)
    assert found[""].layout.layers[1:4] == (0, 1, 1)
