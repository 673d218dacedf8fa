"""compare and sensitivity on MobileNetV2: what was damaged on purpose is found, and what is proposed reaches its target."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

import fxq
from benchmarks.architectures import build, import_models, outputs, random_batches, sqnr

COARSE = fxq.QConfig(
    activation=fxq.HistogramObserver, weight=fxq.PerChannelMinMaxObserver.with_args(quant_min=-7, quant_max=7)
)  # weights of 4 bits


@pytest.fixture(scope="module")
def model() -> nn.Module:
    try:
        import_models()
    except ImportError:
        pytest.skip("torchvision is not installed: pip install --no-deps torchvision")
    return build("mobilenet_v2", 64)


@pytest.fixture(scope="module")
def batches() -> list[Tensor]:
    return random_batches(2, 4, 64)


def damaged(path: str) -> fxq.QConfigMapping:
    return fxq.get_default_qconfig_mapping("x86").set_module_name(path, COARSE)


@pytest.mark.parametrize("path", ["features.1.conv.0.0", "features.9.conv.2", "classifier.1"])
def test_the_damaged_layer_is_number_one(model: nn.Module, batches: list[Tensor], path: str) -> None:
    int8 = fxq.quantize(model, batches, qconfig_mapping=damaged(path), progress=False)
    first, second, *_ = fxq.compare(model, int8, batches, progress=False).rows
    assert first.module == path
    assert first.damage_db < second.damage_db - 6


def test_the_proposal_reaches_its_target(model: nn.Module, batches: list[Tensor]) -> None:
    mapping = damaged("classifier.1")
    whole = sqnr(outputs(model, batches), outputs(fxq.quantize(model, batches, qconfig_mapping=mapping, progress=False), batches))
    found = fxq.sensitivity(model, mapping, batches[0], batches, min_sqnr_db=whole + 2, progress=False)
    assert found.rows[0].module == "classifier.1"
    assert found.proposal is not None and found.proposal.is_reached
    int8 = fxq.quantize(model, batches, qconfig_mapping=found.proposal.mapping, progress=False)
    assert sqnr(outputs(model, batches), outputs(int8, batches)) >= whole + 2
