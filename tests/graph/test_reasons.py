"""Reasons, stages and profile-free values that travel between processes."""

from __future__ import annotations

import pickle

from fxq.graph.reasons import Reason, Why
from fxq.graph.stages import Stage


def test_reason_as_text() -> None:
    assert str(Reason(Why.SHARED, "bn1", "conv1 is read by bn1, add")) == "bn1: conv1 is read by bn1, add"


def test_reasons_are_values() -> None:
    reason = Reason(Why.TRAINING, "bn1", "is in training mode")
    assert pickle.loads(pickle.dumps(reason)) == reason
    assert len({reason, Reason(Why.TRAINING, "bn1", "is in training mode")}) == 1


def test_kinds_of_reason_are_words() -> None:
    assert all(isinstance(why, str) and why.value == why.value.lower() for why in Why)
    assert len({why.value for why in Why}) == len(Why)


def test_stages_are_in_order() -> None:
    assert [stage.name for stage in sorted(Stage)] == ["TRACED", "FUSED", "ANNOTATED", "OBSERVED", "REFERENCE", "LOWERED"]
