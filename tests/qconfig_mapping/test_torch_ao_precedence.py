"""The same rules given to torch.ao choose the same for every node of a traced model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.ao.quantization import QConfigMapping as PeerMapping
from torch.ao.quantization.fx.qconfig_mapping_utils import _generate_node_name_to_qconfig
from torch.ao.quantization.fx.tracer import QuantizationTracer

from fxq.graph.annotation import Origin
from fxq.graph.names import qualified_name
from fxq.qconfig_mapping import QConfig, QConfigMapping
from tests.qconfig_mapping.cases import numbered_qconfig


# the peer passes on unchanged whatever has other fields than a QConfig of its own
class Marker(NamedTuple):
    number: int


QCONFIGS = (None, 0, 1, 2, 3)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 1)
        self.conv2 = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        return torch.add(F.relu(torch.add(x, y)), x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 4, 1)
        self.layer1 = nn.Sequential(Block(), Block())
        self.layer2 = Block()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer2(self.layer1(F.relu(self.stem(x))))
        y = torch.add(y, x).mean((2, 3))
        z: Tensor = self.head(y.view(-1, 4).relu())
        return z


OBJECT_TYPES: tuple[Any, ...] = (nn.Conv2d, nn.Linear, Block, nn.Sequential, torch.add, F.relu, "relu", "view", "mean")
COUNTED: tuple[Any, ...] = (nn.Conv2d, nn.Linear, torch.add, F.relu)  # the peer doesn't count methods
MODULE_NAMES = ("stem", "layer1", "layer1.0", "layer1.1", "layer1.0.conv1", "layer2", "layer2.conv2", "head", "conv1")
REGEXES = ("layer", r"layer1\.", r".*conv1", r".*\.0", "conv1", "head$", "layer1$", "", r"layer[12]$")


@dataclass(frozen=True)
class Setting:
    """One call of a setter, the number of its QConfig last."""

    setter: str
    arguments: tuple[Any, ...]

    def apply(self, mapping: Any, qconfig: Callable[[int], object]) -> None:
        *key, number = self.arguments
        getattr(mapping, self.setter)(*key, None if number is None else qconfig(number))


def settings_of(setter: str, *keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Setting]:
    return st.builds(Setting, st.just(setter), st.tuples(*keys, st.sampled_from(QCONFIGS)))


SETTINGS = st.one_of(
    settings_of("set_global"),
    settings_of("set_object_type", st.sampled_from(OBJECT_TYPES)),
    settings_of("set_module_name_regex", st.sampled_from(REGEXES)),
    settings_of("set_module_name", st.sampled_from(MODULE_NAMES)),
    settings_of("set_module_name_object_type_order", st.sampled_from(("", *MODULE_NAMES)), st.sampled_from(COUNTED), st.integers(0, 2)),
)


@dataclass(frozen=True)
class Traced:
    model: nn.Module
    graph: fx.Graph
    scopes: dict[str, tuple[str, type]]
    origins: dict[str, Origin]


@cache
def traced() -> Traced:
    model = Net()
    tracer = QuantizationTracer([], [])
    graph = tracer.trace(model)
    origins = {}
    counts: Counter[tuple[str, str]] = Counter()
    for node in graph.nodes:
        if not node.op.startswith("call"):
            continue
        path, kind = tracer.node_name_to_scope[node.name]
        around = "" if kind is None else qualified_name(kind)
        name = around if node.op == "call_module" else qualified_name(node.target)
        place = Origin(path, name, module_type=around).scope
        origins[node.name] = Origin(path, name, counts[place, name], module_type=around)
        counts[place, name] += 1
    return Traced(model, graph, tracer.node_name_to_scope, origins)


def chosen_by_peer(chosen: list[Setting]) -> dict[str, int | None]:
    case, mapping = traced(), PeerMapping()
    for setting in chosen:
        setting.apply(mapping, Marker)
    found: dict[str, Any] = _generate_node_name_to_qconfig(case.model, dict(case.model.named_modules()), case.graph, mapping, case.scopes)
    return {name: None if found[name] is None else found[name].number for name in case.origins}


def chosen_by_fxq(chosen: list[Setting]) -> dict[str, int | None]:
    mapping = QConfigMapping()
    for setting in chosen:
        setting.apply(mapping, numbered_qconfig)
    numbers: dict[QConfig | None, int | None] = {None if number is None else numbered_qconfig(number): number for number in QCONFIGS}
    return {name: numbers[mapping.resolve(origin).qconfig] for name, origin in traced().origins.items()}


def test_trace_has_what_the_rules_are_about() -> None:
    origins = traced().origins.values()
    assert {qualified_name(kind) for kind in OBJECT_TYPES} - {origin.object_type for origin in origins} == {
        qualified_name(Block),
        "torch.nn.Sequential",
    }
    assert len(origins) == 25


@settings(deadline=None, max_examples=200)
@given(st.lists(SETTINGS, max_size=10))
def test_same_choice(chosen: list[Setting]) -> None:
    assert chosen_by_fxq(chosen) == chosen_by_peer(chosen)
