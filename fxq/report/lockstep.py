"""A float model and its int8 model side by side on one batch: every pair of values while both exist, and no longer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from fxq.graph.annotation import type_of
from fxq.graph.infer import GraphInterpreter, placeholder_values
from fxq.graph.islands import islands_of, named_parts_of
from fxq.graph.module import FxqModule
from fxq.graph.qtypes import dequantize_tensor, quantize_tensor
from fxq.graph.topology import find_mutated
from fxq.passes.arguments import Inputs
from fxq.report.closeness import Tensors
from fxq.report.kinds import ROUNDED, kind_of
from fxq.report.matching import Graphs, layers_of, match_values
from fxq.report.rows import qparams_known
from fxq.runtime.integer.module import BYTES
from fxq.runtime.qtensor import QTensor


@dataclass(frozen=True, eq=False)
class Pair:
    """A layer of the int8 model on one batch. Values are real numbers, the tensors of a tuple or dict in order.

    Attributes:
        graph, node: the layer.
        exact: what the float model has there.
        value: what the int8 model has there, with the errors of all layers before it.
        alone: what the int8 layer makes of the float model's values; None for a float layer.
    """

    graph: FxqModule
    node: Node
    exact: Tensors
    value: Tensors
    alone: Tensors | None


Observe = Callable[[Pair], None]


@dataclass(frozen=True, eq=False)
class Lockstep:
    """Runs an int8 graph and its float graph node by node; the float one stays as far ahead as the next int8 layer needs.

    What an island calls is compared in the calls of the int8 island, each beside the float call of the same number.

    Attributes:
        graphs: int8 graph → float graph, of a model and of all in its islands.
        observe: gets every pair.
    """

    graphs: Graphs
    observe: Observe

    def run(self, int8: FxqModule, exact_inputs: Inputs, int8_inputs: Inputs) -> Any:
        """Returns what the float graph returns."""
        with torch.no_grad():
            return _Run(self, int8, exact_inputs, int8_inputs).run()


class _Walk(GraphInterpreter):
    """A graph, one node at a time. A value goes behind its last reader, when the next node runs."""

    def __init__(self, graph: FxqModule, inputs: Inputs) -> None:
        super().__init__(graph)
        self.args_iter = iter(placeholder_values(graph, inputs.args, inputs.kwargs))
        self._left = iter(graph.graph.nodes)
        self._done: Node | None = None
        self.upcoming: Node | None = next(self._left)

    def step(self) -> None:
        """Runs the upcoming node."""
        node = self.upcoming
        assert node is not None, "the graph has ended"
        for dead in self.user_to_last_uses.get(self._done, ()) if self._done is not None else ():
            del self.env[dead]
        self.env[node] = self.run_node(node)
        self._done, self.upcoming = node, next(self._left, None)

    def run_again(self, node: Node, operands: Mapping[Node, Any]) -> Any:
        """The value of the node that ran last, had these operands had other values."""
        kept = self.env
        self.env = {**{operand: kept[operand] for operand in node.all_input_nodes}, **operands}
        try:
            return self.run_node(node)
        finally:
            self.env = kept


class _Run:
    """One run of two graphs."""

    def __init__(self, lockstep: Lockstep, int8: FxqModule, exact_inputs: Inputs, int8_inputs: Inputs) -> None:
        exact = lockstep.graphs[int8]
        self._lockstep, self._int8 = lockstep, int8
        self._ahead, self._behind = _Walk(exact, exact_inputs), _Walk(int8, int8_inputs)
        self._matches = match_values(exact, int8)
        self._layers = {node for node in layers_of(int8) if node in self._matches}
        self._islands = {*islands_of(exact), *islands_of(int8)}
        self._overwritten = find_mutated(exact)
        self._needs = {node: self._needed(node) for node in int8.graph.nodes}
        self._last_reader = {value: node for node, needed in self._needs.items() for value in needed}
        self._held: dict[Node, Any] = {}
        self._recorded: dict[Node, dict[str, list[Inputs]]] = {}

    def run(self) -> Any:
        for node in self._int8.graph.nodes:
            while not self._needs[node] <= self._held.keys():
                self._step_ahead()
            self._step_behind(node)
            if node in self._layers:
                self._lockstep.observe(self._pair(node))
            for value in self._needs[node]:
                if self._last_reader[value] is node:
                    del self._held[value]
        while self._ahead.upcoming is not None:
            self._step_ahead()
        return self._ahead.env[self._lockstep.graphs[self._int8].graph.output_node()]

    def _needed(self, node: Node) -> set[Node]:
        """Values of the float graph that have to be there when the node runs."""
        if node not in self._layers:
            return set()
        return {self._matches[each] for each in (node, *self._replaceable(node))}

    def _replaceable(self, node: Node) -> list[Node]:
        """Operands of an int8 layer that are tensors of the float model."""
        if kind_of(node) not in ROUNDED:
            return []
        return [each for each in node.all_input_nodes if each in self._matches and type_of(each) is not None]

    # --- the float graph ---------------------------------------------------------------------------------------------------

    def _step_ahead(self) -> None:
        node = self._ahead.upcoming
        assert node is not None
        if node in self._islands:
            with _recording(self._ahead.fetch_attr(str(node.target))) as self._recorded[node]:
                self._ahead.step()
        else:
            self._ahead.step()
        if node in self._last_reader:
            value = self._ahead.env[node]
            self._held[node] = value.clone() if node in self._overwritten else value

    # --- the int8 graph ----------------------------------------------------------------------------------------------------

    def _step_behind(self, node: Node) -> None:
        recorded = self._recorded.pop(self._matches[node], None) if node in self._islands and node in self._matches else None
        if recorded is None:
            self._behind.step()
            return
        with _following(self._behind.fetch_attr(str(node.target)), recorded, self._lockstep):
            self._behind.step()

    def _pair(self, node: Node) -> Pair:
        exact, value = self._held[self._matches[node]], self._behind.env[node]
        alone = self._real(node, self._alone(node)) if kind_of(node) in ROUNDED else None
        return Pair(self._int8, node, real_tensors(exact), self._real(node, value), alone)

    def _alone(self, node: Node) -> Any:
        """What an int8 layer makes of the float model's values."""
        return self._behind.run_again(node, {operand: self._as_read(operand) for operand in self._replaceable(node)})

    def _as_read(self, operand: Node) -> Any:
        """The float model's value, quantized as the operand is."""
        exact, value, qparams = self._held[self._matches[operand]], self._behind.env[operand], qparams_known(operand)
        return quantize_tensor(exact, qparams) if qparams is not None and _is_bytes(value) else exact

    def _real(self, node: Node, value: Any) -> Tensors:
        qparams = qparams_known(node)
        return (dequantize_tensor(value, qparams),) if qparams is not None and _is_bytes(value) else real_tensors(value)


def _is_bytes(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in BYTES


def real_tensors(value: Any) -> Tensors:
    """The tensors in a result that hold real numbers, in order; those of QTensors dequantized."""
    leaves = [leaf.dequantize() if isinstance(leaf, QTensor) else leaf for leaf in tree_leaves(value)]
    return tuple(leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point())


# --- islands ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _recording(island: nn.Module) -> Iterator[dict[str, list[Inputs]]]:
    """Path of a graph in the island → what it is called with, each time."""
    found: dict[str, list[Inputs]] = defaultdict(list)

    def hook(path: str) -> Callable[..., None]:
        return lambda part, args, kwargs: found[path].append(Inputs(args, kwargs))

    with ExitStack() as hooks:
        for path, part in named_parts_of(island).items():
            hooks.callback(part.register_forward_pre_hook(hook(path), with_kwargs=True).remove)
        yield found


@contextmanager
def _following(island: nn.Module, recorded: Mapping[str, list[Inputs]], lockstep: Lockstep) -> Iterator[None]:
    """While the int8 island runs, each call of a graph inside it is compared with the recorded call of the same number."""

    def hook(calls: Iterator[Inputs]) -> Callable[..., None]:
        def follow(part: FxqModule, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
            exact_inputs = next(calls, None)
            if exact_inputs is not None and part in lockstep.graphs:
                lockstep.run(part, exact_inputs, Inputs(args, kwargs))

        return follow

    with ExitStack() as hooks:
        for path, part in named_parts_of(island).items():
            hooks.callback(part.register_forward_hook(hook(iter(recorded.get(path, ()))), with_kwargs=True).remove)
        yield
