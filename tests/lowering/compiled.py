"""A graph as text → its reference and its lowered form, calibrated on seeded data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.api import convert_fx, convert_to_reference_fx
from fxq.graph.constants import constant_of
from fxq.graph.module import FxqModule
from fxq.graph.ops import call_of
from fxq.graph.parse import parse_graph
from fxq.graph.qdq import qparams_of
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.lowering.profiles import find_profile
from fxq.observers import MinMaxObserver, PerChannelMinMaxObserver
from fxq.passes import PREPARE, Context, run_pipeline
from fxq.qconfig_mapping import QConfig, QConfigMapping
from tests.passes.cases import input_shapes

QCONFIG = QConfig(activation=MinMaxObserver, weight=PerChannelMinMaxObserver)
SIGNED = QConfig(
    activation=MinMaxObserver.with_args(spec=QuantSpec("int8", -127, 127, symmetric=True)),
    weight=MinMaxObserver.with_args(spec=QuantSpec("int8", -127, 127, symmetric=True)),
)


@dataclass(frozen=True)
class Compiled:
    """A graph in both forms, and inputs other than those of calibration, some values beyond their range."""

    reference: FxqModule
    lowered: FxqModule
    inputs: tuple[Tensor, ...]

    def qparams(self, name: str) -> QParams:
        """Of the value that a node of the reference graph makes."""
        (node,) = (node for node in self.reference.graph.nodes if node.name == f"{name}_q")
        return qparams_of(node)

    def weight(self, name: str) -> tuple[Tensor, QParams]:
        """Integers and qparams of the weight that a node of the reference graph reads."""
        operand = self.operand(name, "weight")
        integers = constant_of(operand.args[0])  # type: ignore[arg-type]
        assert integers is not None
        return integers, qparams_of(operand)

    def bias(self, name: str) -> Tensor:
        found = constant_of(self.operand(name, "bias"))
        assert found is not None
        return found.detach()

    def operand(self, name: str, operand: str) -> torch.fx.Node:
        (node,) = (node for node in self.reference.graph.nodes if node.name == name)
        call = call_of(node)
        assert call is not None
        value = call.operands[operand]
        assert isinstance(value, torch.fx.Node)
        return value

    def values(self) -> dict[str, Tensor]:
        """Every value of the lowered graph on the inputs."""
        found: dict[str, Tensor] = {}

        class Recorder(torch.fx.Interpreter):
            def run_node(self, n: torch.fx.Node) -> object:
                found[n.name] = super().run_node(n)
                return found[n.name]

        with torch.no_grad():
            Recorder(self.lowered).run(*self.inputs)
        return found


def compile_text(text: str, profile: str = "x86", qconfig: QConfig = QCONFIG, constants: Mapping[str, Tensor] | None = None) -> Compiled:
    module = parse_graph(text, constants)
    module.profile = find_profile(profile)
    shapes = input_shapes(module)
    prepared = run_pipeline(module, PREPARE, Context(module.profile, QConfigMapping().set_global(qconfig)))
    with torch.no_grad():
        for seed in range(3):
            prepared(*_batch(shapes, seed, 1.0))
    return Compiled(convert_to_reference_fx(prepared), convert_fx(prepared), _batch(shapes, 7, 1.5))


def _batch(shapes: list[tuple[int, ...]], seed: int, factor: float) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator) * factor for shape in shapes)
