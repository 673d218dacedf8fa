"""Graphs on which a random search found something wrong."""

from __future__ import annotations

import torch

from fxq.graph.annotation import refusals_of
from fxq.graph.text import print_graph
from tests.passes.cases import parsed, ramp, text, up_to


def test_conv_added_to_itself_is_not_its_own_residual() -> None:
    graph = """
        x: f32[1, 2, 3, 3] = input
        y: f32[1, 2, 3, 3] = conv(x, @y.weight[2, 2, 1, 1])
        z: f32[1, 2, 3, 3] = add(y, y)
        output z
    """
    fused = up_to("fuse", parsed(graph))
    assert print_graph(fused) == text(graph)
    (node,) = (node for node in fused.graph.nodes if node.name == "z")
    ((rule, reason),) = refusals_of(node)
    assert (rule, reason.detail) == ("conv_add", "y is read by z, z")


def test_cat_holds_what_a_value_with_fixed_qparams_brings_in() -> None:
    """c ranges from 0 to 1/64, the sigmoid beside it up to 0.88: with the range of c alone it was cut off at 1/64."""
    weights = {"c.weight": torch.full((1, 1), 1 / 128)}
    lines = "x: f32[4, 1] = input\nc = linear(x, @c.weight[1, 1])\ns = sigmoid(x)\nj = cat((c, s), dim=1)\noutput j"
    x = ramp(4, 1)
    found, expected = up_to("cancel_qdq", parsed(lines, weights))(x), parsed(lines, weights)(x)
    # a step of the common range, and one of sigmoid's own
    assert bool(((found - expected).abs() <= 1 / 256 + 1 / 256).all())


def test_cat_of_values_with_different_fixed_qparams_has_a_range() -> None:
    lines = "x: f32[4, 1] = input\ns = sigmoid(x)\nt = tanh(x)\nj = cat((s, t), dim=1)\noutput j"
    x = ramp(4, 1)
    assert bool(((up_to("cancel_qdq", parsed(lines))(x) - parsed(lines)(x)).abs() <= 1 / 128 + 1 / 256).all())
