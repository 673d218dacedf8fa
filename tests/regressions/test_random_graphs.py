"""Graphs on which a random search found something wrong."""

from __future__ import annotations

from fxq.graph.annotation import refusals_of
from fxq.graph.text import print_graph
from tests.passes.cases import parsed, text, up_to


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
