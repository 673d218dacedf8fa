"""The reference model with any of its layers kept float, without converting it anew: what tries many choices has to be fast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.fx import Node

from fxq.graph.annotation import Origin
from fxq.graph.constants import constant_of
from fxq.graph.infer import GraphInterpreter, placeholder_values
from fxq.graph.islands import graphs_of, origins_in_model
from fxq.graph.module import FxqModule
from fxq.graph.names import join_path
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of
from fxq.graph.qdq import is_dequantize, is_dequantize_groups, is_quantize, is_rounding
from fxq.passes.annotate import specs_of_values
from fxq.passes.choice import choose_int8
from fxq.passes.freeze_qparams import remove_observers
from fxq.passes.interface import quantized_results
from fxq.qconfig_mapping import QConfigMapping
from fxq.report.kinds import ROUNDED, Kind, kind_of
from fxq.report.macs import count_macs
from fxq.report.matching import layers_of
from fxq.report.wording import describe_origin


@dataclass(frozen=True)
class Layer:
    """A layer that can be kept float: one module of the user's with all its calls, or one call of a function.

    Attributes:
        name: of its first node, behind the path of the graph in an island that it is in.
        origin: the call, or one of them.
        nodes: of the reference model.
        macs: for the example inputs.
    """

    name: str
    origin: Origin
    nodes: frozenset[Node]
    macs: int

    @property
    def what(self) -> str:
        """In the words of the user's model."""
        return describe_origin(self.origin)

    @property
    def is_module(self) -> bool:
        """Whether a module is called there, and no function."""
        return self.origin.module_type == self.origin.object_type

    def keep_float(self, mapping: QConfigMapping) -> QConfigMapping:
        """Adds the rule for it to the mapping, and returns that."""
        if self.is_module:
            return mapping.set_module_name(self.origin.module, None)
        return mapping.set_module_name_object_type_order(self.origin.scope, self.origin.object_type, self.origin.index, None)


def int8_layers(reference: FxqModule) -> list[Layer]:
    """The layers of a reference model that are int8, in order of execution."""
    found: dict[tuple[str, str, int], list[tuple[str, Origin, Node]]] = {}
    for graph in graphs_of(reference):
        for node in (each for each in layers_of(graph) if kind_of(each) in ROUNDED):
            origin = origins_in_model(node, graph)[0]
            is_module = origin.module_type == origin.object_type
            key = (origin.module, origin.object_type, 0 if is_module else origin.index)
            found.setdefault(key, []).append((join_path(graph.path, node.name), origin, node))
    return [_layer(calls) for calls in found.values()]


def _layer(calls: list[tuple[str, Origin, Node]]) -> Layer:
    name, origin, _ = calls[0]
    nodes = frozenset(node for _, _, node in calls)
    return Layer(name, origin, nodes, sum(count_macs(node) or 0 for node in nodes))


class Simulation:
    """The reference model, of which any set of layers can be float. It computes what convert_fx with a rule for each of them would.

    What else becomes float with them, and which values are rounded, is decided as by `annotate`.

    Args:
        prepared: calibrated. Its observers are taken out: it belongs to the simulation from now on.
        reference: converted from it, and the simulation's as well.

    Attributes:
        layers: those that are int8.
    """

    def __init__(self, prepared: FxqModule, reference: FxqModule) -> None:
        self.layers = int8_layers(reference)
        self._model = reference
        self._forwards = [_Forward(*graphs) for graphs in zip(graphs_of(reference), graphs_of(prepared), strict=True)]
        for forward in self._forwards:
            forward.module.__dict__["forward"] = forward

    def keep_float(self, layers: Iterable[Layer]) -> nn.Module:
        """The reference model, with these layers float; always the same object."""
        kept = {node for layer in layers for node in layer.nodes}
        for forward in self._forwards:
            forward.keep_float(kept)
        return self._model


@dataclass(frozen=True, eq=False)
class _Rounded:
    """A value as float readers have it, and as int8 ones have it."""

    exact: Any
    rounded: Any


class _Forward(GraphInterpreter):
    """forward of one graph.

    Args:
        reference: the graph that is run.
        prepared: the graph that it was converted from.
    """

    def __init__(self, reference: FxqModule, prepared: FxqModule) -> None:
        super().__init__(reference)
        self._reference, self._prepared = reference, prepared
        remove_observers(prepared)
        prepared_nodes = {node.name: node for node in prepared.graph.nodes}
        self._prepared_node = {node: prepared_nodes[node.name] for node in reference.graph.nodes if node.name in prepared_nodes}
        self._int8 = {node: call for node in prepared.graph.nodes if (call := call_of(node)) is not None and kind_of(node) is Kind.INT8}
        self._outside = {node for node in reference.graph.nodes if kind_of(node) in (Kind.DYNAMIC, Kind.WEIGHT_ONLY)}
        self._weights = dict(self._float_weights())
        self._returned = set(quantized_results(prepared).values())
        self.keep_float(frozenset())

    def keep_float(self, nodes: Set[Node]) -> None:
        """Decides anew what is int8 when these nodes of the reference graph are not."""
        kept = {self._prepared_node[node] for node in nodes if node in self._prepared_node}
        chosen = choose_int8(self._prepared.graph, {node: call for node, call in self._int8.items() if node not in kept}, self._returned)
        rounded = specs_of_values(chosen, self._returned)
        self._reads_int8 = {node for node, before in self._prepared_node.items() if before in chosen}
        self._is_rounded = {node for node in self._reads_int8 if self._prepared_node[node] in rounded}
        self._reads_int8 |= self._outside - nodes

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*placeholder_values(self._reference, args, kwargs))

    def run_node(self, n: Node) -> Any:
        """The node's value. Between a value that float readers have as it is and its readers both forms go."""
        if n in self._outside and n.op == "call_module" and n not in self._reads_int8:
            return self._run_prepared(n)
        if not is_quantize(n) and not is_dequantize(n) and not is_rounding(n):
            return super().run_node(n)
        source = n.all_input_nodes[0]
        value = self.env[source]
        if is_rounding(n):
            return _Rounded(self._read(source, value, True), super().run_node(n))
        if isinstance(value, _Rounded):
            return _Rounded(value.exact, super().run_node(n))
        keeps_both = is_quantize(n) and source not in self._is_rounded
        return _Rounded(value, super().run_node(n)) if keeps_both else super().run_node(n)

    def _run_prepared(self, n: Node) -> Any:
        """A float module that one with int8 weights has taken the place of."""
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        return self._prepared.get_submodule(str(self._prepared_node[n].target))(*args, **kwargs)

    def fetch_args_kwargs_from_env(self, n: Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What is float reads exact values and float weights."""
        kept = self.env
        reads_exact = n not in self._reads_int8 and not is_quantize(n) and not is_dequantize(n)
        self.env = {operand: self._read(operand, kept[operand], reads_exact) for operand in n.all_input_nodes}
        try:
            return super().fetch_args_kwargs_from_env(n)
        finally:
            self.env = kept

    def _read(self, operand: Node, value: Any, exact: bool) -> Any:
        if isinstance(value, _Rounded):
            return value.exact if exact else value.rounded
        return self._weights.get(operand, value) if exact else value

    def _float_weights(self) -> Iterator[tuple[Node, Tensor]]:
        """Dequantized weight → the weight before it was rounded."""
        for node, before in self._prepared_node.items():
            call, original = call_of(node), call_of(before)
            weight = None if call is None or original is None else _weight_of(original)
            if call is not None and weight is not None and _is_unpacked(call.operands["weight"]):
                yield call.operands["weight"], weight


def _is_unpacked(weight: Node) -> bool:
    return is_dequantize(weight) or is_dequantize_groups(weight)


def _weight_of(call: Call) -> Tensor | None:
    """The weight of a call, where it is a constant of the model."""
    weight = call.operands.get("weight")
    return constant_of(weight) if isinstance(weight, Node) else None
