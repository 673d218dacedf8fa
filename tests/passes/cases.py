"""Models at a given pass, and graphs as text."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import dedent
from typing import Any

import torch
from torch import Tensor, nn

from fxq.graph.annotation import quant_of
from fxq.graph.module import FxqModule
from fxq.graph.parse import parse_graph
from fxq.graph.text import print_graph
from fxq.lowering.profiles import find_profile
from fxq.observers import MinMaxObserver, PerChannelMinMaxObserver
from fxq.passes import CONVERT, PREPARE, Context, run_pipeline
from fxq.qconfig_mapping import QConfig, QConfigMapping

PER_CHANNEL = QConfig(activation=MinMaxObserver, weight=PerChannelMinMaxObserver)
EVERYTHING = QConfigMapping().set_global(PER_CHANNEL)
X86, QNNPACK = find_profile("x86"), find_profile("qnnpack")

# data from 0 to 255/128 has the scale 1/128, whatever the shape: its range does not depend on a random generator
UNIT = 1 / 128


def ramp(*shape: int) -> Tensor:
    """Evenly spaced values from 0 to 255/128."""
    return torch.linspace(0, 255 * UNIT, torch.Size(shape).numel()).reshape(shape)


def text(written: str) -> str:
    """A graph as print_graph writes it, from an indented string."""
    return dedent(written).lstrip("\n")


def up_to(last: str, module: FxqModule, mapping: QConfigMapping = EVERYTHING, profile: str = "x86") -> FxqModule:
    """Runs the passes in front of and with `last`; before the first of CONVERT the model sees one batch of ramps."""
    module.profile = find_profile(profile)
    context = Context(module.profile, mapping)
    for step in (*PREPARE, *CONVERT):
        if step is CONVERT[0]:
            calibrate_on_ramps(module)
        run_pipeline(module, (step,), context)
        if step.name == last:
            return module
    raise AssertionError(f"there is no pass {last}")


def calibrate_on_ramps(module: FxqModule) -> None:
    with torch.no_grad():
        module(*(ramp(*shape) for shape in input_shapes(module)))


def input_shapes(module: FxqModule) -> list[tuple[int, ...]]:
    from fxq.graph.annotation import tensor_type

    found = [tensor_type(node) for node in module.graph.find_nodes(op="placeholder")]
    return [each.shape for each in found if each is not None]


def parsed(written: str, constants: Mapping[str, Tensor] | None = None) -> FxqModule:
    return parse_graph(text(written), constants)


def decisions(module: FxqModule) -> dict[str, str]:
    """Node → "int8", "int8 → float", "float", or the reason it stays float."""
    return {node.name: _decision(node) for node in module.graph.nodes if node.op not in ("output", "get_attr")}


def _decision(node: Any) -> str:
    quant = quant_of(node)
    assert quant is not None
    if quant.reason is not None:
        return f"{quant.reason.why.value}: {quant.reason.detail}"
    return "int8" if quant.output is not None else "int8 → float"


def groups(module: FxqModule) -> list[set[str]]:
    """The values that share qparams, group by group."""
    found: dict[int, set[str]] = {}
    for node in module.graph.nodes:
        quant = quant_of(node)
        if quant is not None and quant.group is not None:
            found.setdefault(quant.group, set()).add(node.name)
    return list(found.values())


def printed(module: FxqModule) -> str:
    return print_graph(module)


class Block(nn.Module):
    """conv, bn and relu as a submodule."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """Two blocks, a shortcut, pooling and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Block(3, 4)
        self.body = nn.Sequential(Block(4, 4), nn.Conv2d(4, 4, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = torch.relu(self.body(y) + y)
        return self.fc(torch.flatten(self.pool(y), 1))


def residual(seed: int = 0) -> nn.Module:
    """A Residual in eval mode with batch norm statistics that are not those of a new one."""
    torch.manual_seed(seed)
    model = Residual()
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(8, 3, 8, 8))
    return model.eval()


# each kind of value: an input, a conv, pooling that keeps qparams, fixed qparams that cat has to change, movement, a float result
NETWORK = """
    x: f32[1, 2, 2, 4] = input
    c: f32[1, 2, 2, 4] = conv(x, @c.weight[2, 2, 1, 1], @c.bias[2], act=relu)
    p: f32[1, 2, 1, 2] = max_pool(c, kernel_size=(2, 2), stride=(2, 2))
    s: f32[1, 2, 1, 2] = sigmoid(p)
    j: f32[1, 4, 1, 2] = cat((p, s), dim=1)
    f: f32[1, 8] = flatten(j, start_dim=1)
    l: f32[1, 3] = linear(f, @l.weight[3, 8], @l.bias[3])
    output l
"""


def network() -> FxqModule:
    """NETWORK with weights such that every scale is a power of two: x, c and the weights 1/128, sigmoid 1/256."""
    weights = {
        "c.weight": (torch.eye(2) * 127 * UNIT).reshape(2, 2, 1, 1),
        "c.bias": torch.tensor([0.0, 255 * UNIT * UNIT]),  # 255/128 · 127/128 + 255/128 · 1/128 is 255/128
        "l.weight": torch.linspace(-127, 127, 24).reshape(3, 8).round().clamp(-127, 127) * UNIT,
        "l.bias": torch.tensor([0.5, -0.5, 0.0]),
    }
    weights["l.weight"][1, 0] = 127 * UNIT
    return parsed(NETWORK, weights)
