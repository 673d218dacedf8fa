"""What the parts of a converted model take: the kernels of its compiled regions, and all other calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.fx.graph_module import GraphModule

from fxq.graph.module import FxqModule
from fxq.lowering.executable import RegionCall, executable_of
from fxq.runtime.jit import CompiledRegion


@dataclass(frozen=True)
class Part:
    """A kernel call of a region, a step of one that has no kernel, or a call of the graph outside of regions.

    Attributes:
        name: of the layer's node.
        runs: the kernel's family, or what is called.
        region: None outside.
        number: of the call in its region; 0 outside.
        shape: of the result; None where that is no tensor.
        macs: multiplications; 0 where no kernel counts them.
        reason: why a step of a region has no kernel; None for those that have one.
    """

    name: str
    runs: str
    region: str | None = None
    number: int = 0
    shape: tuple[int, ...] | None = None
    macs: int = 0
    reason: str | None = None


def time_parts(module: FxqModule, args: tuple[Any, ...], kwargs: Mapping[str, Any], runs: int) -> dict[Part, float]:
    """Least seconds of each part in that many runs of a converted model, regions on one thread. It was called before on such inputs."""
    timer = _Timer(executable_of(module))
    given = (*args, *(kwargs[str(node.target)] for node in timer.placeholders[len(args) :] if node.target in kwargs))
    for _ in range(runs):
        timer.run(*given)
    return timer.least


class _Timer(Interpreter):
    """Runs a graph node by node. Each part runs once in a run, in its place, so that results are right and caches as always."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
        self.least: dict[Part, float] = {}

    def run_node(self, n: Node) -> Any:
        called = self._region(n)
        if called is not None:
            return self._run_region(called, [self.env[operand] for operand in n.args if isinstance(operand, Node)])
        is_timed = n.op.startswith("call_") and not any(map(self._region, n.all_input_nodes))
        start = time.perf_counter()
        result = super().run_node(n)
        seconds = time.perf_counter() - start
        if is_timed:
            self._note(Part(n.name, self._what(n), shape=_shape(result)), seconds)
        return result

    def _run_region(self, region: CompiledRegion, inputs: list[Tensor]) -> tuple[Any, ...]:
        timed, name = region.run_timed(inputs), region.region.name
        for number, call in enumerate(timed.calls):
            self._note(Part(call.step, call.runs, name, number, call.shape, call.macs, call.reason), call.seconds)
        return timed.outputs

    def _note(self, part: Part, seconds: float) -> None:
        self.least[part] = min(seconds, self.least.get(part, seconds))

    def _region(self, node: Node) -> CompiledRegion | None:
        """What a node calls, where that is a region. Other nodes that read one only take its results apart."""
        module = self.submodules.get(node.target) if node.op == "call_module" else None
        return module.compiled if isinstance(module, RegionCall) else None

    def _what(self, node: Node) -> str:
        if node.op == "call_module":
            return type(self.fetch_attr(str(node.target))).__name__
        return str(getattr(node.target, "__name__", node.target))


def _shape(result: Any) -> tuple[int, ...] | None:
    return tuple(result.shape) if isinstance(result, torch.Tensor) else None
