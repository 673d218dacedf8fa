"""Changes between stages: what is new, what is another op now, and where what is gone went."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import fxq
from fxq.visualize.changes import Changes, Removed, changes_between
from fxq.visualize.stages import known_values, stages_of
from tests.report.models import prepared_block


def changes() -> dict[str, Changes]:
    model: Any = fxq.convert_fx(prepared_block(), runtime="integer")
    stages = stages_of(model, known_values(model))
    return {after.name: changes_between(before.cards, after.cards) for before, after in pairwise(stages)}


def test_what_was_fused_is_gone_into_its_layer() -> None:
    assert set(changes()["fused"].removed) == {
        Removed("BatchNorm2d bn1", "conv1"), Removed("ReLU relu", "conv1"), Removed("add", "conv2"), Removed("ReLU relu", "conv2"),
    }  # fmt: skip


def test_observers_are_added_and_change_nothing_else() -> None:
    found = changes()["observed"]
    assert found.added and all(name.endswith(("_observer", "_moments")) for name in found.added)
    assert found.changed == () and found.removed == ()


def test_annotation_changes_what_is_quantized() -> None:
    found = changes()["annotated"]
    assert found.added == () and found.removed == ()
    assert {"conv1", "conv2", "fc"} <= set(found.changed)


def test_lowering_takes_the_quantize_nodes_away() -> None:
    found = changes()["lowered"]
    assert {"conv1", "conv2", "fc"} <= set(found.changed)
    assert any(removed.what.startswith("dequantize") for removed in found.removed)
