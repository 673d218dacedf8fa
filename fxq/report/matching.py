"""Which value of the float model an int8 model's value stands for: the two graphs of one model, call by call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch.fx import Node

from fxq.errors import ConfigError
from fxq.graph.annotation import Origin, origins_of
from fxq.graph.islands import graphs_of, islands_of, named_parts_of, origins_in_model
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Policy
from fxq.graph.ops import call_of
from fxq.qconfig_mapping.presence import nearest
from fxq.report.kinds import ROUNDED, Kind, kind_of
from fxq.report.wording import describe_origin

# node of an int8 graph → node of its float graph; int8 graph → its float graph
Matches = Mapping[Node, Node]
Graphs = Mapping[FxqModule, FxqModule]
# what names a call in every graph of one model: module, object type, and which of such calls it is
CallKey = tuple[str, str, int]


def match_values(exact: FxqModule, int8: FxqModule) -> Matches:
    """Node of the int8 graph → the node of the float graph whose value it stands for, by the last call that was fused into it.

    quantize, dequantize and requantize stand for what they read. What the compiler made otherwise has no counterpart.
    """
    inputs = {str(node.target): node for node in exact.graph.find_nodes(op="placeholder")}
    made = {call_key(origin): node for node in exact.graph.nodes for origin in origins_of(node)}
    last = {call_key(origins[-1]): node for node in int8.graph.nodes if (origins := origins_of(node))}
    found: dict[Node, Node] = {}
    for node in int8.graph.nodes:
        counterpart = _counterpart(node, inputs, made, last) if origins_of(node) or node.op == "placeholder" else _behind(node, found)
        if counterpart is not None:
            found[node] = counterpart
    return found


def _counterpart(node: Node, inputs: Mapping[str, Node], made: Mapping[CallKey, Node], last: Mapping[CallKey, Node]) -> Node | None:
    """Of several nodes that one call became, the last has its value."""
    if node.op == "placeholder":
        return inputs.get(str(node.target))
    key = call_key(origins_of(node)[-1])
    return made.get(key) if last[key] is node else None


def _behind(node: Node, found: Matches) -> Node | None:
    return found.get(node.all_input_nodes[0]) if len(node.all_input_nodes) == 1 and node.op.startswith("call_") else None


def call_key(origin: Origin) -> CallKey:
    """The call, whichever graph it is in."""
    return origin.module, origin.object_type, origin.index


def layers_of(graph: FxqModule) -> Iterator[Node]:
    """The nodes that compute what the user's model does; those that only move elements have no numbers of their own."""
    for node in graph.graph.nodes:
        call = call_of(node)
        moves = call is not None and call.op.policy is Policy.MOVES
        if kind_of(node) in (*ROUNDED, Kind.FLOAT) and origins_of(node) and not moves:
            yield node


def pair_graphs(exact: FxqModule, int8: FxqModule) -> Graphs:
    """Int8 graph → float graph: the models themselves, and all that their islands call.

    Raises:
        ConfigError: an int8 layer has no counterpart: the float model is another one.
    """
    matches, pairs = match_values(exact, int8), {int8: exact}
    _require_calls(exact, int8)
    for node in islands_of(int8):
        if node in matches:
            islands = [graph.get_submodule(str(each.target)) for graph, each in ((exact, matches[node]), (int8, node))]
            pairs.update(_pair_parts(*map(named_parts_of, islands)))
    return pairs


def _pair_parts(exact: Mapping[str, FxqModule], int8: Mapping[str, FxqModule]) -> Iterator[tuple[FxqModule, FxqModule]]:
    for path, part in int8.items():
        if path in exact:
            yield from pair_graphs(exact[path], part).items()


def _require_calls(exact: FxqModule, int8: FxqModule) -> None:
    made = {call_key(origin) for node in exact.graph.nodes for origin in origins_of(node)}
    for node in layers_of(int8):
        lost = next((origin for origin in origins_of(node) if call_key(origin) not in made), None)
        if lost is not None and kind_of(node) in ROUNDED:
            raise _no_counterpart(lost.below(int8.path), exact)


def _no_counterpart(origin: Origin, exact: FxqModule) -> ConfigError:
    present = {other.module for each in graphs_of(exact) for call in each.graph.nodes for other in origins_in_model(call, each)}
    near = nearest(origin.module, present)
    return ConfigError(
        f"float model, {origin.module or origin.object_type}",
        expected=f"the model that the int8 one was made from, with {describe_origin(origin)}",
        found="no such call" + (f"; it has {', '.join(near)}" if near else ""),
        remedy="pass the float model itself, built with the same arguments, in the state in which it was given to fxq",
    )
