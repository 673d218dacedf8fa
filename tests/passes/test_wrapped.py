"""Functions under torch.fx.wrap: traced where that is possible, else one call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxq
from fxq.graph.annotation import origins_of
from fxq.graph.names import qualified_name
from fxq.graph.text import print_graph
from fxq.passes import trace
from fxq.passes.whole import TraceOptions
from tests.passes.cases import PER_CHANNEL, decisions, up_to

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def windows(x: Tensor, weight: Tensor, size: int) -> Tensor:
    """Sizes decide: torch.fx would fail at the first condition."""
    _, _, height, width = x.shape
    if height % size or width % size:
        x = F.pad(x, (0, -width % size, 0, -height % size))
    parts = x.unflatten(2, (-1, size)).unflatten(4, (-1, size)).permute(0, 2, 4, 3, 5, 1).flatten(0, 2)
    return F.linear(parts, weight)


def by_its_values(x: Tensor) -> Tensor:
    """Looks at elements behind calls that a trace could record."""
    y = x * 2
    if y.shape[0] > 1 and float(y.sum()) > 0:
        return y
    return -y


def twice(x: Any) -> Any:
    return outer_part(x) + outer_part(x)


def outer_part(x: Any) -> Any:
    return x * 2


for name in ("windows", "by_its_values", "twice", "outer_part"):
    fx.wrap(name)


class Windows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(6, 4, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        return windows(torch.relu(self.conv(x)), self.weight, 4)


class Applied(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return globals()[self.function](x)


def test_its_calls_are_in_the_graph() -> None:
    model = Windows()
    module = trace(model, X)
    calls = [node for node in module.graph.nodes if node.target is F.linear]
    assert [origin.functions for node in calls for origin in origins_of(node)] == [(qualified_name(windows),)]
    assert windows.__module__ not in print_graph(module)
    for images in (X, X[:1]):
        assert torch.equal(module(images), model(images))


def test_int8_for_any_batch_and_the_sizes_of_the_examples() -> None:
    model = Windows().eval()
    int8 = fxq.quantize(model, [X], progress=False)
    assert fxq.report(int8).totals.macs_share_int8 == 1.0
    with torch.no_grad():
        exact, found = model(X[:1]), int8(X[:1])
    assert float(10 * torch.log10(exact.square().sum() / (found - exact).square().sum())) > 30
    with pytest.raises(fxq.FxqError, match="height % size or width % size"):
        trace(model, X)(torch.zeros(1, 3, 6, 8))


def test_one_call_where_elements_decide() -> None:
    module = trace(Applied("by_its_values"), X)
    assert print_graph(module).splitlines()[1:] == [
        f"by_its_values: f32[2, 3, 8, 8] = call {qualified_name(by_its_values)}(x)", "output by_its_values",
    ]  # fmt: skip
    assert torch.equal(module(X), by_its_values(X)) and torch.equal(module(-X), by_its_values(-X))


def test_one_inside_another() -> None:
    module = trace(Applied("twice"), X)
    found = {node.name: [origin.functions for origin in origins_of(node)] for node in module.graph.nodes if node.op == "call_function"}
    outer, inner = qualified_name(twice), qualified_name(outer_part)
    assert found == {"mul": [(outer, inner)], "mul_1": [(outer, inner)], "add": [(outer,)]}


def test_calls_that_were_tried_are_not_counted() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return by_its_values(x) * 2

    module = trace(Both(), X)
    assert [(origin.object_type, origin.index) for node in module.graph.nodes for origin in origins_of(node)][-1] == ("operator.mul", 0)


def test_values_that_are_no_part_of_the_trace_are_computed_with() -> None:
    class Number(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + outer_part(3)

    assert print_graph(trace(Number(), X)).splitlines()[1] == "add: f32[2, 3, 8, 8] = call _operator.add(x, 6)"


def test_the_functions_are_what_they_were_after_a_trace() -> None:
    before = {name: globals()[name] for name in ("windows", "by_its_values", "twice", "outer_part")}
    trace(Windows(), X)
    with pytest.raises(fxq.FxqError):
        trace(Applied("no such function"), X, TraceOptions(strict=True))
    assert {name: globals()[name] for name in before} == before


def test_rules_by_the_type_of_the_function() -> None:
    kept = fxq.QConfigMapping().set_global(PER_CHANNEL).set_object_type(windows, None)
    found = decisions(up_to("annotate", trace(Windows(), X), kept))
    assert (
        found["conv"] == "int8 → float" and found["linear"] == f'switched off: kept float by set_object_type("{qualified_name(windows)}")'
    )
    stronger = kept.set_object_type(Windows, PER_CHANNEL)
    assert decisions(up_to("annotate", trace(Windows(), X), stronger))["linear"] == "int8 → float"
