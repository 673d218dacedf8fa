"""Layers that quantize as they go are ranked as those with calibrated ranges are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.report.closeness import closeness
from fxq.tuning import sensitivity
from tests.report.test_dynamic import batches, mapping, model

MIXED = fxq.get_default_qconfig_mapping("x86").set_module_name("lstm", fxq.per_channel_dynamic_qconfig)
MIXED = MIXED.set_module_name("head", fxq.per_row_dynamic_qconfig)


def sqnr_db(given: fxq.QConfigMapping) -> float:
    exact, int8 = model(), fxq.quantize(model(), batches(), qconfig_mapping=given, progress=False)
    with torch.no_grad():
        return closeness([exact(x) for x in batches()], [int8(x) for x in batches()]).sqnr_db


@pytest.mark.parametrize("given", [mapping(), MIXED], ids=["dynamic", "mixed"])
def test_each_gain_is_that_of_the_mapping_without_the_layer(given: fxq.QConfigMapping) -> None:
    found = sensitivity(model(), given, batches()[0], batches(), progress=False)
    assert {row.module for row in found.rows} >= {"lstm", "mix", "head"}
    assert found.sqnr_db == pytest.approx(sqnr_db(given), abs=0.2)
    for name in ("lstm", "mix", "head"):
        kept = given.model_copy(deep=True).set_module_name(name, None)
        assert found.row(name).sqnr_db == pytest.approx(sqnr_db(kept), abs=0.2), name


def test_a_proposal() -> None:
    least = sensitivity(model(), mapping(), batches()[0], batches(), progress=False)
    target = least.rows[0].sqnr_db - 0.5
    found = sensitivity(model(), mapping(), batches()[0], batches(), min_sqnr_db=target, progress=False)
    assert found.proposal is not None and found.proposal.is_reached and len(found.proposal.kept_float) == 1
    assert sqnr_db(found.proposal.mapping) == found.proposal.reached >= target


class OneLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y


def test_the_only_layer_in_float_is_exact() -> None:
    (row,) = sensitivity(OneLinear().eval(), mapping(), torch.randn(2, 4), [torch.randn(2, 4)], progress=False).rows
    assert row.sqnr_db == float("inf")
