"""What a converted model runs: its lowered graph, with a call of compiled code in the place of each region."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from fxq.errors import ConfigError
from fxq.graph.module import FxqModule
from fxq.graph.stages import Stage
from fxq.lowering.regions import GraphRegion, Partition, find_regions
from fxq.runtime.choice import wanted_runtime
from fxq.runtime.dynamic.op import DynamicOp
from fxq.runtime.jit import CompiledRegion, accepts, register, run_region, unavailable


@dataclass(frozen=True)
class JitExecutor:
    """Builds executables of compiled regions; see fxq.graph.module.Executor."""

    def build(self, module: FxqModule) -> Callable[..., Any]:
        """A function of the model's inputs, with the bits of the lowered graph."""
        partition = find_regions(module.graph, accepts)
        return _split(module, partition).forward if partition.regions else MethodType(type(module).forward, module)


def choose_executor(runtime: str) -> JitExecutor | None:
    """The executor of that runtime; None for the integer ops. FXQ_RUNTIME goes before the argument "auto".

    Raises:
        ConfigError: there is no such runtime, or "jit" cannot run on this machine.
    """
    wanted = wanted_runtime(runtime)
    reason = unavailable()
    if wanted == "jit" and reason is not None:
        raise ConfigError("runtime", expected="a machine that LLVM can compile for", found=reason, remedy='use runtime="auto" or "integer"')
    return None if wanted == "integer" or reason is not None else JitExecutor()


def run_with(model: FxqModule, runtime: str) -> None:
    """From the next call on, lowered graphs and dynamic ops in the model run with it. Raises ConfigError as `choose_executor`."""
    executor = choose_executor(runtime)
    for module in model.modules():
        if isinstance(module, FxqModule):
            module.run_with(executor if module.stage >= Stage.LOWERED else None)
        elif isinstance(module, DynamicOp):
            module.run_with(runtime)


class RegionCall(nn.Module):
    """Calls one region; holds no parameters, they are in the ops at the user's paths."""

    def __init__(self, compiled: CompiledRegion) -> None:
        super().__init__()
        self.compiled = compiled
        self.number = register(compiled)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The region's outputs."""
        return self._traced(inputs) if torch.compiler.is_compiling() else self.compiled(inputs)

    def _traced(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One operator for torch.compile, which runs here; for torch.export torch's own operators, which run anywhere."""
        if torch.compiler.is_exporting():
            return self.compiled.region.run(inputs)
        return tuple(run_region([x.detach() for x in inputs], self.number))  # integers have no gradient, whatever is in front of them


def executable_of(module: FxqModule) -> GraphModule:
    """What a converted model runs: a graph with region calls, or the model itself where there are none."""
    executable = getattr(module.__dict__.get("forward"), "__self__", None)
    return executable if isinstance(executable, GraphModule) else module


def regions_of(module: FxqModule) -> list[CompiledRegion]:
    """The compiled regions of a converted model; empty where it runs on the integer ops."""
    executable = executable_of(module)
    return [call.compiled for call in executable.modules() if isinstance(call, RegionCall)] if executable is not module else []


def compiled_nodes(module: FxqModule) -> frozenset[Node]:
    """Nodes of a converted model that run as machine code: in regions, and dynamic ops. They count until a call shows that they do not."""
    if not isinstance(module.executor, JitExecutor):
        return frozenset()
    inside = {node for region in find_regions(module.graph, accepts).regions for node in region.nodes}
    dynamic = {node for node in module.graph.find_nodes(op="call_module") if _is_compiled(module.get_submodule(str(node.target)))}
    return frozenset(inside.difference(refused_nodes(module)) | dynamic)


def refused_nodes(module: FxqModule) -> Mapping[Node, str]:
    """Nodes that ran as integer ops inside regions, as calls have shown → why."""
    refused = {name: reason for compiled in regions_of(module) for name, reason in compiled.refused.items()}
    return {node: refused[node.name] for node in module.graph.nodes if node.name in refused}


def _is_compiled(called: nn.Module) -> bool:
    return isinstance(called, DynamicOp) and called.is_compiled


def _split(module: FxqModule, partition: Partition) -> GraphModule:
    """A graph of float islands, integer ops that have no kernel, and region calls, which shares the model's modules."""
    graph, values = Graph(), dict[Node, Node]()
    root: dict[str, Any] = {}
    for unit in _in_order(module.graph, partition):
        if isinstance(unit, GraphRegion):
            _call_region(graph, unit, values, root)
            continue
        values[unit] = graph.node_copy(unit, values.__getitem__)
        if unit.op in ("call_module", "get_attr"):
            root[str(unit.target)] = _attribute(module, str(unit.target))
    graph.set_codegen(module.graph._codegen)
    return GraphModule(root, graph, "Executable")


def _call_region(graph: Graph, region: GraphRegion, values: dict[Node, Node], root: dict[str, Any]) -> None:
    name = region.region.name
    root[name] = RegionCall(CompiledRegion(region.region))
    results = graph.create_node("call_module", name, tuple(values[node] for node in region.inputs), name=name)
    for number, node in enumerate(region.outputs):
        values[node] = graph.call_function(_item, (results, number))


def _item(results: Sequence[Tensor], number: int) -> Tensor:
    """One of the results of a region."""
    return results[number]


def _in_order(graph: Graph, partition: Partition) -> list[Node | GraphRegion]:
    """Regions and the nodes outside of them, each behind all that it reads."""
    units: nx.DiGraph = nx.DiGraph()
    makers: dict[Node, Node | GraphRegion] = {node: node for node in partition.outside}
    makers.update((node, region) for region in partition.regions for node in region.nodes)
    first: dict[Node | GraphRegion, int] = {}
    for number, node in enumerate(graph.nodes):
        if node in makers:
            first.setdefault(makers[node], number)
    for unit in first:
        units.add_node(unit)
        reads = unit.inputs if isinstance(unit, GraphRegion) else unit.all_input_nodes
        units.add_edges_from((makers[operand], unit) for operand in reads)
    return list(nx.lexicographical_topological_sort(units, key=first.__getitem__))


def _attribute(module: nn.Module, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module
