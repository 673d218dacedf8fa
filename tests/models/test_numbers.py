"""Where the accuracy of a real network goes: the layer that was damaged on purpose is found."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxq
from benchmarks.architectures import build, import_models, random_batches
from fxq.observers import HistogramObserver, PerChannelMinMaxObserver

SIZE = 32
DAMAGED = "features.8.conv.2"


@pytest.fixture(scope="module")
def model() -> nn.Module:
    try:
        import_models()
    except ImportError:
        pytest.skip("torchvision is not installed: pip install --no-deps torchvision")
    return build("mobilenet_v2", SIZE)


@pytest.fixture(scope="module")
def batches() -> list[Tensor]:
    return random_batches(2, 4, SIZE)


def test_layer_with_a_coarse_scale_is_number_one(model: nn.Module, batches: list[Tensor]) -> None:
    """Its weights are spread over seven integers instead of 255."""
    coarse = fxq.QConfig(activation=HistogramObserver, weight=PerChannelMinMaxObserver.with_args(quant_min=-3, quant_max=3))
    mapping = fxq.get_default_qconfig_mapping("x86").set_module_name(DAMAGED, coarse)
    int8 = fxq.quantize(model, batches, qconfig_mapping=mapping, progress=False)
    found = fxq.compare(model, int8, batches)
    worst, second = found.rows[:2]
    assert worst.module == DAMAGED
    assert worst.damage_db < second.damage_db - 20
    assert worst.alone is not None and worst.alone.sqnr_db > worst.damage_db + 20  # the residual hides it


@pytest.mark.parametrize("runtime", ["jit", "integer"])
def test_layer_with_a_wrong_scale_is_number_one(model: nn.Module, batches: list[Tensor], runtime: str) -> None:
    int8 = fxq.quantize(model, batches, runtime=runtime, progress=False)
    before = fxq.compare(model, int8, batches[:1])
    assert before.rows[0].module != DAMAGED
    with torch.no_grad():
        int8.get_submodule(DAMAGED).multiplier.mul_(1.25)
    assert fxq.compare(model, int8, batches[:1]).rows[0].module == DAMAGED


def test_proposal_reaches_its_target_when_applied(model: nn.Module, batches: list[Tensor]) -> None:
    mapping, few = fxq.get_default_qconfig_mapping("x86"), batches[:1]
    int8 = fxq.quantize(model, few, qconfig_mapping=mapping, progress=False)
    target = fxq.compare(model, int8, few).output.sqnr_db + 6
    proposal = fxq.sensitivity(model, mapping, (few[0],), few, min_sqnr_db=target, progress=False).proposal
    assert proposal is not None and 1 <= len(proposal.kept_float) <= 6
    applied = fxq.quantize(model, few, qconfig_mapping=proposal.mapping, progress=False)
    assert fxq.compare(model, applied, few).output.sqnr_db == proposal.sqnr_db >= target
