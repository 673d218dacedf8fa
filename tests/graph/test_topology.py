"""The shape of a graph: edges, classes, aliases, and what is changed in place."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from torch import nn
from torch.fx import GraphModule, Node

from fxq.graph.module import FxqModule
from fxq.graph.ops import call_of
from fxq.graph.parse import parse_graph
from fxq.graph.reasons import Reason
from fxq.graph.recognise import recognise
from fxq.graph.topology import classes, dataflow, find_aliases, find_mutated
from fxq.passes import trace


def names(nodes: object) -> list[str]:
    return [node.name for node in nodes]  # type: ignore[attr-defined]


def test_dataflow_has_an_edge_from_every_value_to_every_reader() -> None:
    module = parse_graph("x: f32[2] = input\na: f32[2] = mul(x, @w[2])\nb: f32[4] = cat((a, x))\nc: f32[2] = add(a, a)\noutput (b, [c])")
    graph = dataflow(module.graph)
    assert isinstance(graph, nx.DiGraph)
    assert names(graph.nodes) == ["x", "w", "a", "b", "c", "output"]
    assert sorted((source.name, reader.name) for source, reader in graph.edges) == [
        ("a", "b"), ("a", "c"), ("b", "output"), ("c", "output"), ("w", "a"), ("x", "a"), ("x", "b"),
    ]  # fmt: skip


def test_classes() -> None:
    module = parse_graph(
        "a: f32[2] = input\nb: f32[2] = input\nc: f32[2] = input\nd: f32[2] = input\ne: f32[2] = input\noutput (a, b, c, d, e)"
    )
    a, b, c, d, e = (node for node in module.graph.nodes if node.op == "placeholder")
    assert classes([a, b, c, d, e], []) == [{a}, {b}, {c}, {d}, {e}]
    assert classes([a, b, c, d, e], [(d, b), (e, d), (c, c)]) == [{a}, {b, d, e}, {c}]
    assert classes([], []) == []


def aliases(module: GraphModule, of: str, recognised: bool = False) -> set[str]:
    found = {node: call_of(node) for node in module.graph.nodes}
    if recognised:
        calls = {node: recognise(node, None) for node in module.graph.nodes if node.op.startswith("call_")}
        found = {node: call for node, call in calls.items() if not isinstance(call, Reason)}
    node = next(node for node in module.graph.nodes if node.name == of)
    return set(names(find_aliases(module.graph, {node: call for node, call in found.items() if call is not None}).others(node)))


def test_what_moves_elements_and_what_is_unknown_may_return_a_view() -> None:
    module = parse_graph(
        """
        x: f32[2, 3] = input
        v: f32[6] = reshape(x, shape=(6,))
        r: f32[6] = relu(v)
        u: f32[6] = call torch.atleast_1d(r)
        s = size(x)
        p: f32[6] = mul(u, @w[6])
        n: f32[6] = call torch.atan2(p, @w[6])
        output (n, s)
        """
    )
    assert aliases(module, "x") == {"v"}
    assert aliases(module, "r") == {"u"}
    assert aliases(module, "s") == set()
    assert aliases(module, "n") == set()


def test_copies_and_what_was_seen_in_memory_of_its_own_are_no_views() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        unknown, copied, viewed = x.cumsum(0), x.repeat(1, 2).roll(1), x.expand_as(x)
        return unknown + copied.clone()[:, :3] + viewed

    module = trace(type("Model", (torch.nn.Module,), {"forward": lambda self, x: function(x)})(), torch.zeros(2, 3))
    assert aliases(module, "x", recognised=True) == {"expand_as"}
    assert aliases(module, "clone", recognised=True) == {"getitem"}


def test_an_in_place_op_returns_what_it_has_written_to() -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        a = x * 2
        b = a.add_(y)
        return b.relu()

    class Model(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return function(x, y)

    module = trace(Model(), (torch.ones(2), torch.ones(2)))
    assert aliases(module, "mul", recognised=True) == {"add_"}
    assert aliases(module, "y", recognised=True) == aliases(module, "relu", recognised=True) == set()


# --- changed in place ------------------------------------------------------------------------------------------------------


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.RReLU(inplace=True)
        self.calm = nn.RReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x)


def written(text: str) -> dict[str, str]:
    """Changed value → the node that changes it."""
    module = parse_graph(f"x: f32[4] = input\na: f32[4] = add(x, 1)\n{text}")
    return {value.name: writer.name for value, writer in find_mutated(module).items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b: f32[4] = relu(a)\noutput b", {}),
        ("b: f32[4] = call torch.neg(a)\noutput b", {}),
        ("b: f32[4] = method exp_(a)\noutput b", {"a": "b", "b": "b"}),
        ("b: f32[4] = call torch.exp_(a)\noutput b", {"a": "b", "b": "b"}),
        ("b: f32[4] = call _operator.itruediv(a, 2)\noutput b", {"a": "b", "b": "b"}),
        ("b: f32[4] = call _operator.truediv(a, 2)\noutput b", {}),
        ("c = call torch.gt(a, 1)\nb = call _operator.and_(c, c)\nd = call _operator.invert(b)\noutput d", {}),
        ("c = call torch.gt(a, 1)\nb = call _operator.ior(c, c)\noutput b", {"c": "b", "b": "b"}),
        ("b: f32[4] = call torch.nn.functional.threshold(a, 0.5, 1.0, inplace=True)\noutput b", {"a": "b", "b": "b"}),
        ("b: f32[4] = call torch.nn.functional.threshold(a, 0.5, 1.0, inplace=False)\noutput b", {}),
        ("b = call _operator.setitem(a, 0, 1.0)\noutput a", {"a": "b"}),
        ("b = method __len__(a)\noutput a", {}),
        ("v: f32[2, 2] = reshape(a, shape=(2, 2))\nb: f32[2, 2] = method exp_(v)\noutput b", {"a": "b", "v": "b", "b": "b"}),
        ("r: f32[4] = relu(a)\nb: f32[4] = method exp_(r)\noutput (b, a)", {"r": "b", "b": "b"}),
    ],
)
def test_find_mutated(text: str, expected: dict[str, str]) -> None:
    assert written(text) == expected


@pytest.mark.parametrize(("inplace", "expected"), [(True, {"x": "act", "act": "act"}), (False, {})])
def test_modules_with_inplace(inplace: bool, expected: dict[str, str]) -> None:
    model = InPlace()
    model.act = nn.RReLU(inplace=inplace)
    module = trace(model.eval(), torch.ones(2))
    assert isinstance(module, FxqModule)
    found: dict[Node, Node] = dict(find_mutated(module))
    assert {value.name: writer.name for value, writer in found.items()} == expected
