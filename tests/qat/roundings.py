"""How often an int8 model rounds otherwise than training has simulated."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

import fxq
from fxq.qat import FakeQuantize


@dataclass(eq=False)
class Roundings:
    """8-bit values of an int8 model, and how many of them are not those of the simulation.

    Attributes:
        worst: the largest difference, in steps.
    """

    values: int = 0
    different: int = 0
    worst: int = 0

    @property
    def share(self) -> float:
        assert self.values > 0
        return self.different / self.values

    def add(self, computed: Tensor, simulated: Tensor) -> None:
        distance = (computed.to(torch.int32) - simulated.to(torch.int32)).abs()
        self.values += distance.numel()
        self.different += int((distance > 0).sum())
        self.worst = max(self.worst, int(distance.max()))


class _Simulated(Interpreter):
    """Runs a model in training; keeps the integers that its fake-quantize modules round to, by the name of the value."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, Tensor] = {}

    def call_module(self, target: object, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        module = self.fetch_attr(str(target))
        if isinstance(module, FakeQuantize):
            (x,) = args
            assert isinstance(x, Tensor)
            integers = torch.round(x * (1.0 / module.scale)) + module.zero_point
            self.found[str(self.current)] = integers.clamp(module.spec.qmin, module.spec.qmax).to(module.spec.torch_dtype)
        return super().call_module(target, args, kwargs)  # type: ignore[arg-type]

    def run_node(self, n: Node) -> object:
        self.current = n.all_input_nodes[0] if n.op == "call_module" else n
        return super().run_node(n)


@dataclass(eq=False)
class _Compared(Interpreter):
    """Runs the int8 model and compares; alone: goes on with the simulated values, so that each layer shows its own differences."""

    module: GraphModule
    simulated: dict[str, Tensor]
    alone: bool
    roundings: Roundings = field(default_factory=Roundings)

    def __post_init__(self) -> None:
        super().__init__(self.module)

    def run_node(self, n: Node) -> object:
        value, simulated = super().run_node(n), self.simulated.get(n.name)
        if simulated is None or not isinstance(value, Tensor) or value.dtype != simulated.dtype:
            return value
        self.roundings.add(value, simulated)
        return simulated if self.alone else value


@torch.no_grad()
def different_roundings(qat: fxq.FxqModule, x: Tensor, *, alone: bool = False) -> Roundings:
    """Of the int8 model against the QAT model in evaluation mode.

    Args:
        alone: each layer reads what is simulated in front of it; else what the int8 model has there, where one value that falls to the
            other side moves those of all layers behind it.
    """
    simulated = _Simulated(qat)
    simulated.run(x)
    compared = _Compared(fxq.convert_fx(qat, runtime="integer"), simulated.found, alone)
    compared.run(x)
    return compared.roundings
