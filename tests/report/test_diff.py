from __future__ import annotations

import copy

import pytest
import torch

import fxq
from fxq.errors import StageError
from fxq.report import Difference, diff
from fxq.report.difference import Change, TensorChange
from tests.report.models import Block, block_input, prepared_block, prepared_islands


def int8(profile: str = "x86", off: str | None = None) -> fxq.FxqModule:
    torch.manual_seed(0)
    mapping = fxq.get_default_qconfig_mapping(profile)
    mapping = mapping if off is None else mapping.set_module_name(off, None)
    return fxq.quantize(Block().eval(), [block_input()], profile, qconfig_mapping=mapping, progress=False)


def facts(found: Difference, name: str) -> dict[str, tuple[object, object]]:
    op = next(op for op in found.changed if op.name == name)
    return {change.fact: (change.before, change.after) for change in op.changes}


def test_a_model_and_its_copy_are_the_same() -> None:
    for model in (int8(), prepared_block(), prepared_islands(), fxq.convert_fx(prepared_islands())):
        found = diff(model, copy.deepcopy(model))
        assert found.is_empty
        assert str(found) == "the models are the same"
    assert diff(int8(), int8()).same == 6


def test_numbers() -> None:
    changed = int8()
    changed.conv1.weight[0, 0, 0, 0] += 3
    changed.conv1.weight[1, 0, 0, 0] -= 2
    found = diff(int8(), changed)
    assert not found.is_empty and (found.added, found.removed, found.model, found.same) == ((), (), (), 5)
    (op,) = found.changed
    assert (op.name, op.what, op.changes) == ("conv1", "Conv2d conv1", ())
    assert op.tensors == (TensorChange(tensor="weight", elements=288, changed=2, max_change=3.0),)
    assert str(found).splitlines() == [
        "ops: 0 added, 0 removed, 1 changed, 5 the same",
        "~  conv1  weight: 2 of 288 elements changed, by at most 3",
    ]


def test_a_layer_that_stays_float() -> None:
    found = diff(int8(), int8(off="fc"))
    assert [change.fact for change in found.model] == ["MACs in int8", "weights"]
    assert facts(found, "fc") == {
        "kind": ("int8", "float"),
        "weight quantized to": ("int8 -127..127 symmetric per channel 0", None),
        "stays float": (None, 'switched off, kept float by set_module_name("fc")'),
        "weight type": ("int8[5, 8]", "float32[5, 8]"),
        "bias type": ("int32[5]", "float32[5]"),
    }
    assert facts(found, "pool")["dtype"] == ("uint8", "float32")


def test_scales_of_other_data() -> None:
    model = Block().eval()
    first, second = (fxq.quantize(model, [factor * block_input()], progress=False) for factor in (1.0, 2.0))
    before, after = facts(diff(first, second), "x")["scale"]
    assert isinstance(before, float) and after == pytest.approx(2 * before)


def test_stages_of_one_model() -> None:
    prepared = prepared_block()
    found = diff(prepared, fxq.convert_to_reference_fx(prepared))
    assert (found.added, found.removed) == ((), ())
    assert Change(fact="stage", before="OBSERVED", after="REFERENCE") in found.model
    assert Change(fact="float → int8", before=0, after=5) in found.model
    assert facts(found, "conv1")["weight type"] == ("float32[8, 4, 3, 3]", "int8[8, 4, 3, 3]")
    assert all("reads" not in facts(found, op.name) for op in found.changed)


class Longer(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(super().forward(self.relu(x)), -1)


def test_ops_that_one_model_has() -> None:
    torch.manual_seed(0)
    longer = fxq.fuse_fx(Longer().eval(), (block_input(),))
    torch.manual_seed(0)
    found = diff(fxq.fuse_fx(Block().eval(), (block_input(),)), longer)
    assert [op.name for op in found.added] == ["relu", "softmax"]
    assert facts(found, "conv1") == {"reads": ("x", "relu")}
    assert [op.name for op in diff(longer, fxq.fuse_fx(Block().eval(), (block_input(),))).removed] == ["relu", "softmax"]
    assert "+  softmax  softmax" in str(found).splitlines()


def test_attributes_and_long_texts_are_cut_to_what_differs() -> None:
    narrow, wide = Block().eval(), Block().eval()
    wide.conv2.padding, wide.conv2.dilation = (2, 2), (2, 2)
    x = block_input()
    found = diff(fxq.fuse_fx(narrow, (x,)), fxq.fuse_fx(wide, (x,)))
    assert facts(found, "conv2") == {"padding": ("(1, 1)", "(2, 2)"), "dilation": (None, "(2, 2)")}
    first, second = (fxq.quantize(model, [x], progress=False) for model in (narrow, wide))
    assert "settings: padding=((1, 1), (1, 1)), " in str(diff(first, second))


def test_json() -> None:
    found = diff(int8(), int8("qnnpack"))
    assert Difference.model_validate_json(found.to_json()) == found
    assert repr(found) == "<Difference: 0 added, 0 removed, 3 changed, 3 the same>"


def test_float_models_are_refused() -> None:
    with pytest.raises(StageError, match="prepare_fx"):
        diff(Block(), int8())
