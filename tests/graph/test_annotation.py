"""What is known of a node: read, written, copied, and stored."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch.fx import Graph, Node

from fxq.graph.annotation import (
    NodeQuant,
    Origin,
    TensorType,
    annotations_of,
    copy_annotations,
    note_refusal,
    origin_of,
    origins_of,
    quant_of,
    refusals_of,
    resolution_of,
    set_annotations,
    set_origins,
    set_quant,
    set_resolution,
    set_type,
    tensor_type,
    type_of,
    update_quant,
)
from fxq.graph.qtypes import ACTIVATION, QParams
from fxq.graph.reasons import Reason, Why

F32 = TensorType((2, 3), torch.float32)
CONV = Origin("block.conv", "torch.nn.Conv2d", 0, "model.py:12", "torch.nn.Conv2d")
ADD = Origin("block", "torch.add", 1, "model.py:13", "__main__.Block")
REASON = Reason(Why.SHARED, "x", "x is read by y, z")


def placeholder() -> Node:
    return Graph().placeholder("x")


def test_nothing_is_known_of_a_new_node() -> None:
    node = placeholder()
    assert (type_of(node), tensor_type(node), origins_of(node), origin_of(node)) == (None, None, (), None)
    assert (resolution_of(node), quant_of(node), refusals_of(node), annotations_of(node)) == (None, None, (), {})


def test_type() -> None:
    node = placeholder()
    set_type(node, F32)
    assert type_of(node) == tensor_type(node) == F32
    set_type(node, (F32, None))
    assert type_of(node) == (F32, None) and tensor_type(node) is None


def test_the_first_origin_gives_a_node_its_name() -> None:
    node = placeholder()
    set_origins(node, (CONV, ADD))
    assert origins_of(node) == (CONV, ADD) and origin_of(node) is CONV


@pytest.mark.parametrize(
    ("origin", "scope"),
    [
        (CONV, "block"),
        (ADD, "block"),
        (Origin("conv", "torch.nn.Conv2d", module_type="torch.nn.Conv2d"), ""),
        (Origin("", "torch.add", module_type="__main__.Model"), ""),
        (Origin("a.b", "torch.add"), "a.b"),
    ],
)
def test_scope(origin: Origin, scope: str) -> None:
    assert origin.scope == scope


def test_quant() -> None:
    node = placeholder()
    set_quant(node, NodeQuant(output=ACTIVATION, rule="global"))
    assert quant_of(node) == NodeQuant({}, ACTIVATION, None, "global") and NodeQuant().is_int8
    update_quant(node, group=3, reason=REASON)
    assert quant_of(node) == NodeQuant({}, ACTIVATION, 3, "global", REASON)
    assert not NodeQuant(reason=REASON).is_int8
    with pytest.raises(FrozenInstanceError):
        quant_of(node).group = 4  # type: ignore[union-attr, misc]
    with pytest.raises(AssertionError, match="x has no NodeQuant"):
        update_quant(placeholder(), group=1)


def test_refusals_add_up() -> None:
    node = placeholder()
    note_refusal(node, "conv_bn", REASON)
    note_refusal(node, "op_relu", REASON)
    note_refusal(node, "conv_bn", REASON)  # a rule that two passes try
    assert refusals_of(node) == (("conv_bn", REASON), ("op_relu", REASON))


def full() -> Node:
    node = placeholder()
    set_type(node, F32)
    set_origins(node, (CONV,))
    set_quant(node, NodeQuant({"input": ACTIVATION}, ACTIVATION, 1, "global", None, QParams.per_tensor(0.5, 3)))
    set_resolution(node, "a resolution")  # type: ignore[arg-type]
    note_refusal(node, "conv_bn", REASON)
    return node


def test_copied_annotations_take_the_place_of_what_was_known() -> None:
    source, target = full(), placeholder()
    set_type(target, (None, None))
    copy_annotations(source, target)
    assert annotations_of(target) == annotations_of(source)
    note_refusal(target, "other", REASON)
    assert len(refusals_of(source)) == 1
    empty = placeholder()
    copy_annotations(empty, target)
    assert type_of(target) == F32  # what is not known of the source is not forgotten of the target


def test_annotations_are_stored_without_what_others_put_in_meta() -> None:
    node = full()
    node.meta["stack_trace"] = "of torch.fx"
    stored = pickle.loads(pickle.dumps(annotations_of(node)))
    restored = placeholder()
    set_annotations(restored, stored)
    assert annotations_of(restored) == annotations_of(node)
    assert len(annotations_of(node)) == 5 and "stack_trace" not in restored.meta
