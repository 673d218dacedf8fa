"""Regions are convex, disjoint and maximal, and mean what the graph means."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx import Node

import fxq
from fxq.graph import movement
from fxq.graph.module import FxqModule
from fxq.graph.topology import dataflow
from fxq.lowering.executable import JitExecutor
from fxq.lowering.regions import Accepts, Partition, find_regions
from fxq.runtime.integer.module import IntegerOp
from fxq.runtime.jit import accepts


def lowered(model: nn.Module, *inputs: Tensor) -> FxqModule:
    torch.manual_seed(0)
    return fxq.quantize(model.eval(), [inputs], progress=False, runtime="integer")


def names(partition: Partition) -> list[list[str]]:
    return [[step.name for step in region.region.steps] for region in partition.regions]


def test_a_float_layer_cuts_in_two() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.LogSoftmax(1), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    module = lowered(model, torch.randn(1, 3, 4, 4))
    assert names(find_regions(module.graph, accepts)) == [["input_1_q", "_0"], ["_2_q", "_3", "_5"]]


def test_two_inputs_meet_in_one_region() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            z: Tensor = self.c(self.a(x) + self.b(y))
            return z

    module = lowered(Sum(), torch.randn(2, 4), torch.randn(2, 4))
    partition = find_regions(module.graph, accepts)
    assert [len(region.inputs) for region in partition.regions] == [2]
    assert [node.op for node in partition.outside].count("call_module") == 0


def test_what_only_moves_elements_is_no_region() -> None:
    class Moves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).view(2, -1)

    assert find_regions(lowered(Moves(), torch.randn(2, 3, 4)).graph, accepts).regions == ()


def test_sizes_are_computed_on_both_sides() -> None:
    class Sizes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Linear(64, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, int]:
            y = torch.relu(self.a(x))
            return self.b(y.view(y.size(0), 64)), y.size(0)

    module = lowered(Sizes(), torch.randn(2, 3, 4, 4))
    partition = find_regions(module.graph, accepts)
    assert [len(region.region.steps) for region in partition.regions] == [5]
    assert sum(node.target is movement.size for node in partition.outside) == 1
    module.run_with(None)
    expected = module(torch.randn(3, 3, 4, 4))[1]
    assert expected == 3


def test_a_size_that_two_regions_compute() -> None:
    """What it is the size of is an output of the region that makes it, though that region reads the size as well."""

    class Sizes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Linear(64, 64), nn.Linear(64, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.a(x))
            count = y.size(0)
            found: Tensor = self.c(torch.sin(self.b(y.view(count, 64))).view(count, 64))
            return found

    int8, x = lowered(Sizes(), torch.randn(2, 3, 4, 4)), torch.randn(5, 3, 4, 4)
    first, second = find_regions(int8.graph, accepts).regions
    assert [node.name for node in first.outputs] == ["a", "b"] and [node.name for node in second.inputs] == ["sin", "a"]
    expected = int8(x)
    int8.run_with(JitExecutor())
    assert torch.equal(int8(x), expected)


class _Double(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(2, 2, 1) for _ in range(8))
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for number, conv in enumerate(self.convs):
            values.append(torch.relu(conv(values[number // 2] + values[-1])))
        found: Tensor = self.last(torch.cat(values[-3:], 1))
        return found


MODULE: list[FxqModule] = []


def module() -> FxqModule:
    """One graph with many paths, made once."""
    if not MODULE:
        MODULE.append(lowered(_Double(), torch.randn(1, 2, 3, 3)))
    return MODULE[0]


@settings(deadline=None, max_examples=60)
@given(st.sets(st.integers(0, 25)))
def test_regions_of_any_choice_of_kernels(refused: set[int]) -> None:
    """Convex: no path leaves and comes back. Maximal: neighbours of one level are together."""
    graph = module().graph
    steps = {node.name: number for number, node in enumerate(graph.nodes)}
    chosen: Accepts = lambda step, integers: accepts(step, integers) and steps[step.name] not in refused  # noqa: E731
    partition = find_regions(graph, chosen)
    members = [set(region.nodes) for region in partition.regions]
    flow = dataflow(graph)
    assert sum(map(len, members)) == len(set().union(*members)) if members else True
    for region in members:
        ahead = set().union(*(nx.descendants(flow, node) for node in region)) - region
        behind = set().union(*(nx.ancestors(flow, node) for node in region)) - region
        assert not ahead & behind
    everything = set(partition.outside).union(*members)
    assert {node for node in graph.nodes if node not in everything} == set()
    assert nx.is_directed_acyclic_graph(_quotient(flow, members))


def _quotient(flow: nx.DiGraph, members: list[set[Node]]) -> nx.DiGraph:
    home = {node: number for number, region in enumerate(members) for node in region}
    edges = {(home.get(a, a), home.get(b, b)) for a, b in flow.edges}
    return nx.DiGraph((a, b) for a, b in edges if a != b)


def test_a_region_means_what_its_nodes_mean() -> None:
    whole = module()
    partition = find_regions(whole.graph, accepts)
    assert len(partition.regions) == 1
    assert all(isinstance(step.function, IntegerOp) or callable(step.function) for step in partition.regions[0].region.steps)
    x = torch.randn(2, 2, 3, 3)
    assert torch.equal(partition.regions[0].region.run([x])[0], whole.run_lowered(x))


@pytest.mark.parametrize("value", [0, 1])
def test_values_are_freed_after_their_last_reader(value: int) -> None:
    region = find_regions(module().graph, accepts).regions[0].region
    assert region.last_reads[value] < len(region.steps)
