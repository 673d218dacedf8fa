"""What is kept of a model on its way: every stage once, every pass, and what the observers have seen."""

from __future__ import annotations

import fxq
from fxq.passes import CONVERT, FUSE, PREPARE, trace
from fxq.passes.record import distributions_of
from tests.report.models import Block, block_input, prepared, prepared_block


def test_every_stage_but_the_last_is_kept() -> None:
    made = prepared_block()
    assert list(made.history.snapshots) == [fxq.Stage.TRACED, fxq.Stage.FUSED, fxq.Stage.ANNOTATED]
    assert list(fxq.convert_fx(made).history.snapshots) == list(fxq.Stage)[:5]
    assert list(fxq.convert_to_reference_fx(made).history.snapshots) == list(fxq.Stage)[:4]


def test_first_snapshot_is_the_model_as_it_was_traced() -> None:
    fused = fxq.fuse_fx(Block().eval(), block_input())
    traced = trace(Block().eval(), block_input())
    assert [node.name for node in fused.history.snapshots[fxq.Stage.TRACED].nodes] == [node.name for node in traced.graph.nodes]


def test_every_pass_is_listed_with_its_changes() -> None:
    converted = fxq.convert_fx(prepared_block())
    assert [run.name for run in converted.history.runs] == [each.name for each in (*PREPARE, *CONVERT)] + ["lower"]
    changes = {run.name: run.changes for run in converted.history.runs}
    assert changes["insert_observers"] == len(distributions_of(prepared_block()))
    assert [run.name for run in fxq.fuse_fx(Block().eval(), block_input()).history.runs] == [each.name for each in FUSE]


def test_converting_leaves_the_prepared_models_history_alone() -> None:
    made = prepared_block()
    before = made.history
    fxq.convert_fx(made)
    assert made.history is before


def test_observers_are_kept_with_what_they_have_seen() -> None:
    made = prepared(Block().eval(), block_input())
    kept = fxq.convert_fx(made).history.snapshots[fxq.Stage.OBSERVED].observed
    assert kept == distributions_of(made)
    seen = kept["x_observer"]
    assert (seen.low, seen.high) == (float(block_input().min()), float(block_input().max()))
    assert sum(seen.counts) == block_input().numel()
