"""Snapshots: the same graph as text, without data; copies of a model share them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.graph.history import Called, History, PassRun, Snapshot
from fxq.graph.islands import graphs_of
from fxq.graph.snapshots import restore, take
from fxq.passes import trace
from fxq.report.kinds import kind_of
from tests.report.models import Islands, islands_input, prepared_islands


@pytest.mark.parametrize("stage", ["traced", "fused", "observed", "reference", "lowered"])
def test_restored_graphs_print_alike_and_have_the_same_kinds(stage: str) -> None:
    observed = prepared_islands()
    model = {
        "traced": lambda: trace(Islands().eval(), islands_input()),
        "fused": lambda: fxq.fuse_fx(Islands().eval(), islands_input()),
        "observed": lambda: observed,
        "reference": lambda: fxq.convert_to_reference_fx(observed),
        "lowered": lambda: fxq.convert_fx(observed),
    }[stage]()
    for graph in graphs_of(model):
        restored = restore(take(graph, {}), graph.path)
        assert fxq.print_graph(restored) == fxq.print_graph(graph)
        assert list(map(kind_of, restored.graph.nodes)) == list(map(kind_of, graph.graph.nodes))
        assert (restored.stage, restored.path) == (graph.stage, graph.path)


def test_restored_tensors_have_no_data() -> None:
    restored = restore(take(fxq.convert_to_reference_fx(prepared_islands()), {}))
    tensors = [*restored.parameters(), *restored.buffers()]
    assert tensors and all(tensor.is_meta for tensor in tensors)


def test_class_that_a_function_defines_is_shown_by_name() -> None:
    class Local(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    mapping = fxq.get_default_qconfig_mapping("x86")
    config = fxq.PrepareCustomConfig().set_non_traceable_module_classes([Local])
    prepared = fxq.prepare_fx(nn.Sequential(Local()).eval(), mapping, torch.ones(2), config)
    assert "Local[0](input_1)" in fxq.print_graph(restore(take(prepared, {})))


class Titled(nn.Module):
    """Its name in graph text is made from what it holds."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def _get_name(self) -> str:
        return self.title

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_names_that_modules_make_of_what_they_hold_are_kept() -> None:
    mapping = fxq.get_default_qconfig_mapping("x86")
    config = fxq.PrepareCustomConfig().set_non_traceable_module_classes([Titled])
    prepared = fxq.prepare_fx(nn.Sequential(Titled("Third")).eval(), mapping, torch.ones(2), config)
    assert "Third[0](input_1)" in fxq.print_graph(restore(take(prepared, {})))


def test_history_is_shared_by_copies_and_survives_pickle() -> None:
    prepared = prepared_islands()
    assert copy.deepcopy(prepared).history is prepared.history
    loaded = pickle.loads(pickle.dumps(prepared)).history
    assert loaded == prepared.history
    assert list(loaded.snapshots) == [fxq.Stage.TRACED, fxq.Stage.FUSED, fxq.Stage.ANNOTATED]


def test_later_snapshot_of_a_stage_takes_the_place_of_the_earlier_one() -> None:
    first, second = (Snapshot(fxq.Stage.OBSERVED, (), {"a": Called(f"torch.nn.{name}", name)}) for name in ("ReLU", "Tanh"))
    history = History().with_snapshot(first).with_run(PassRun("freeze_qparams", fxq.Stage.REFERENCE, 3)).with_snapshot(second)
    assert history.snapshots == {fxq.Stage.OBSERVED: second}
    assert [run.name for run in history.runs] == ["freeze_qparams"]
