"""Every node is in the report, and the sums are those of the rows."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import ConfigError
from fxq.graph.module import FxqModule
from fxq.graph.reasons import Why
from fxq.passes import trace
from fxq.report import Kind, Report
from tests.report import models
from tests.report.models import Block, Islands, block_input, islands_input, prepared, prepared_block, prepared_islands


def _stages() -> dict[str, FxqModule]:
    observed = prepared_islands()
    return {
        "traced": trace(Islands().eval(), islands_input()),
        "fused": fxq.fuse_fx(Islands().eval(), islands_input()),
        "observed": observed,
        "reference": fxq.convert_to_reference_fx(observed),
        "lowered": fxq.convert_fx(observed),
        "block": fxq.convert_fx(prepared_block()),
    }


@pytest.fixture(scope="module", params=["traced", "fused", "observed", "reference", "lowered", "block"])
def model(request: pytest.FixtureRequest, stages: dict[str, FxqModule]) -> FxqModule:
    return stages[request.param]


@pytest.fixture(scope="module")
def stages() -> dict[str, FxqModule]:
    return _stages()


def test_every_node_has_its_row(model: FxqModule) -> None:
    assert [row.name for row in fxq.report(model).rows] == [node.name for node in model.graph.nodes]


def test_totals_are_the_sums_of_the_rows(model: FxqModule) -> None:
    made = fxq.report(model)
    rows, totals = made.rows, made.totals
    assert totals.nodes == len(rows)
    assert totals.kinds == Counter(row.kind for row in rows)
    assert totals.macs == sum(row.macs or 0 for row in rows)
    assert totals.macs_int8 == sum(row.macs or 0 for row in rows if row.kind is Kind.INT8)
    assert sum(row.macs_share for row in rows) == pytest.approx(1.0, abs=1e-12)
    assert totals.weight_bytes == sum(row.weight_bytes for row in rows)
    assert sorted(name for group in totals.reasons for name in group.nodes) == sorted(row.name for row in rows if row.reason)
    assert [group.count for group in totals.reasons] == [len(group.nodes) for group in totals.reasons]


def test_weight_bytes_are_those_of_the_model(model: FxqModule) -> None:
    """Without observers, and without the counter of batches that no op of the graph reads."""
    others = ("observer", "moments", "num_batches_tracked")
    tensors = [tensor for name, tensor in model.state_dict().items() if not any(other in name for other in others)]
    counters = 2 * 8 if model.stage is fxq.Stage.TRACED else 0  # there the modules, which hold them, are still called
    assert fxq.report(model).totals.weight_bytes == sum(tensor.nbytes for tensor in tensors) + counters


def test_float_weights_are_the_same_at_every_stage(stages: dict[str, FxqModule]) -> None:
    found = {name: fxq.report(stages[name]).totals.weight_bytes_float32 for name in ("observed", "reference", "lowered")}
    fused = fxq.report(stages["observed"]).totals.weight_bytes
    assert found == {"observed": fused, "reference": fused, "lowered": fused}


def test_json_round_trip(model: FxqModule) -> None:
    made = fxq.report(model)
    assert json.loads(made.to_json()) == made.to_dict()
    assert Report.model_validate_json(made.to_json()) == made
    assert "\n" not in made.to_json(indent=None)


def test_model_is_not_changed(model: FxqModule) -> None:
    before = fxq.print_graph(model)
    fxq.report(model)
    assert fxq.print_graph(model) == before


def test_report_of_a_loaded_model_is_the_same(model: FxqModule) -> None:
    assert fxq.report(pickle.loads(pickle.dumps(model))) == fxq.report(model)


def test_rows_speak_of_the_users_model(stages: dict[str, FxqModule]) -> None:
    made = fxq.report(stages["lowered"])
    conv = made.row("conv")
    assert (conv.what, conv.type, conv.module, conv.kind, conv.rule) == ("Conv2d conv", "Conv2d", "conv", Kind.INT8, "set_global")
    assert conv.fused == ("BatchNorm2d bn", "relu")
    assert (conv.shape, conv.dtype) == ((2, 16, 32, 32), "uint8")
    assert (conv.spec, conv.weight_spec) == ("uint8 0..255 affine per tensor", "int8 -127..127 symmetric per channel 0")
    path, _, line = conv.source.rpartition(":")
    assert Path(path) == Path(models.__file__)
    assert "self.conv(x)" in Path(path).read_text().splitlines()[int(line) - 1]


def test_kinds_of_a_converted_model(stages: dict[str, FxqModule]) -> None:
    made = fxq.report(stages["lowered"])
    kinds = {row.name: row.kind for row in made.rows}
    assert kinds["x"] is Kind.INPUT and kinds["output"] is Kind.OUTPUT
    assert kinds["x_q"] is Kind.QUANTIZE and kinds["max_pool2d_dq"] is Kind.DEQUANTIZE
    assert kinds["bn2_running_mean"] is Kind.CONSTANT
    assert {name for name, kind in kinds.items() if kind is Kind.FLOAT} == {
        "bn2", "hooked", "add", "permute", "reshape", "lstm", "softmax", "mul_1",
    }  # fmt: skip
    assert {name for name, kind in kinds.items() if kind is Kind.SHAPE} == {
        "getattr_1", "getitem", "getitem_1", "getitem_2", "getitem_3", "getitem_4", "getitem_5", "mul",
    }  # fmt: skip


def test_reasons(stages: dict[str, FxqModule]) -> None:
    made = fxq.report(stages["lowered"])
    assert {name: group.why for group in made.totals.reasons for name in group.nodes} == {
        "lstm": Why.OTHER_QCONFIG, "hooked": Why.HOOKS, "bn2": Why.TRAINING, "add": Why.FLOAT_INPUT,
        "permute": Why.FLOAT_READERS, "reshape": Why.FLOAT_READERS, "softmax": Why.FLOAT_INPUT,
        "mul_1": Why.FLOAT_INPUT,
    }  # fmt: skip
    macs = [group.macs for group in made.totals.reasons]
    assert macs == sorted(macs, reverse=True) and macs[0] == 16 * (128 * 128 + 128 * 32)
    refused = [(refusal.rule, refusal.reason.why) for refusal in made.row("bn2").refusals]
    assert refused == [("conv_bn", Why.TRAINING), ("bn_as_conv", Why.TRAINING)]


def test_qparams_are_those_of_the_reference(stages: dict[str, FxqModule]) -> None:
    """Scale and zero point of an int8 op's row are what its quantize node has in the reference model."""
    reference, lowered = fxq.report(stages["reference"]), fxq.report(stages["lowered"])
    for name in ("conv", "max_pool2d", "mean"):
        q = reference.row(f"{name}_q")
        assert q.scale is not None
        assert (lowered.row(name).scale, lowered.row(name).zero_point) == (q.scale, q.zero_point)
    assert lowered.row("head").scale is None
    assert fxq.report(stages["observed"]).row("conv").scale is None


def test_requantization_is_an_int8_node() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return nn.functional.silu(torch.cat([torch.sigmoid(x + y), x * y], 1))

    inputs = torch.randn(2, 3), torch.randn(2, 3)
    observed = fxq.prepare_fx(Model().eval(), fxq.get_default_qconfig_mapping("x86"), inputs)
    observed(*inputs)
    made = fxq.report(fxq.convert_fx(observed))
    rows = [row for row in made.rows if row.what == "requantize sigmoid"]
    assert [(row.kind, row.scale == made.row("cat").scale) for row in rows] == [(Kind.INT8, True)]


def test_shared_weight_counts_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4, bias=False)
            self.second = nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    made = fxq.report(fxq.fuse_fx(Tied().eval(), torch.randn(2, 4)))
    assert [made.row(name).weight_bytes for name in ("first", "second")] == [64, 0]
    assert made.totals.weight_bytes == 64 and made.totals.heavy == 2


def test_half_precision_is_compared_with_float32() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False)).eval().to(torch.bfloat16)
    totals = fxq.report(fxq.fuse_fx(model, torch.randn(2, 4, dtype=torch.bfloat16))).totals
    assert (totals.weight_bytes, totals.weight_bytes_float32) == (32, 64)


def test_model_without_products() -> None:
    made = fxq.report(prepared(nn.Sequential(nn.ReLU()).eval(), torch.randn(3)))
    assert (made.totals.macs, made.totals.macs_share_int8, made.totals.heavy) == (0, 0.0, 0)


def test_row_of_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match="nothing"):
        fxq.report(fxq.fuse_fx(Block().eval(), block_input())).row("nothing")


def test_other_modules_are_refused() -> None:
    with pytest.raises(fxq.StageError, match=r"found: +a torch\.nn\.modules\.linear\.Linear"):
        fxq.report(nn.Linear(2, 2))
