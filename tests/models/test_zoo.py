"""Architectures that bring ops the first five don't have: all products in int8, and close to float32."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import fxq
from benchmarks.architectures import import_models, sqnr
from benchmarks.zoo import Entry, build, outputs
from benchmarks.zoo_page import Family


@dataclass(frozen=True)
class Case:
    """An architecture and what is promised of it.

    Attributes:
        least_sqnr: dB, on the calibration batch.
        why: the ops that it is here for.
    """

    entry: Entry
    least_sqnr: float
    why: str


def _case(name: str, least_sqnr: float, why: str, shape: tuple[int, ...] = (4, 3, 64, 64), family: Family = Family.CONVOLUTIONAL) -> Case:
    return Case(Entry(name, family, shape), least_sqnr, why)


CASES = (
    _case("densenet121", 29.0, "cat of many, batch norms in front of convolutions"),
    _case("efficientnet_b0", 33.0, "silu, sigmoid, products by channel, stochastic depth"),
    _case("mobilenet_v3_small", 32.0, "hardswish, hardsigmoid"),
    _case("shufflenet_v2_x0_5", 32.0, "chunk, transposes of views"),
    _case("googlenet", 38.0, "branches of pools"),
    _case("convnext_tiny", 22.0, "layer norms, permutes, gelu, scales of layers"),
    _case("vit_b_32", 22.0, "attention", (1, 3, 224, 224), Family.TRANSFORMER),
    _case("lraspp_mobilenet_v3_large", 40.0, "interpolation", (2, 3, 64, 64), Family.SEGMENTATION),
    _case("r3d_18", 30.0, "three dimensions", (1, 3, 4, 32, 32), Family.VIDEO),
)


@pytest.fixture(scope="module", autouse=True)
def _torchvision() -> None:
    try:
        import_models()
    except ImportError:
        pytest.skip("torchvision is not installed: pip install --no-deps torchvision")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.entry.name)
def test_all_products_are_int8_and_accurate(case: Case) -> None:
    model = build(case.entry)
    batches = [torch.randn(case.entry.shape, generator=torch.Generator().manual_seed(1))]
    int8 = fxq.quantize(model, batches, progress=False)
    totals = fxq.report(int8).totals
    assert totals.macs_share_int8 == 1.0 and not totals.not_counted
    assert sqnr(outputs(model, batches), outputs(int8, batches)) >= case.least_sqnr


def test_frozen_batch_norms_fold_like_batch_norms() -> None:
    """torchvision's detectors have batch norms whose statistics are buffers and whose arithmetic is written out."""
    from torchvision.ops.misc import FrozenBatchNorm2d

    entry = Entry("resnet18", Family.CONVOLUTIONAL, (2, 3, 64, 64))
    model = build(entry)
    frozen: nn.Module = import_models().resnet18(weights=None, norm_layer=FrozenBatchNorm2d).eval()
    frozen.load_state_dict({name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")})
    batches = [torch.randn(entry.shape, generator=torch.Generator().manual_seed(1))]
    plain, written_out = (fxq.quantize(each, batches, progress=False) for each in (model, frozen))
    assert _kinds(plain) == _kinds(written_out)
    assert sqnr(_all(plain, batches), _all(written_out, batches)) > 25.0


class Attend(nn.Module):
    """One head that reads many keys."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(32, 32) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        weights = (self.query(x) * 0.1 @ self.key(memory).transpose(1, 2)).softmax(-1)
        result: Tensor = self.out(weights @ self.value(memory))
        return result


def test_attention_over_many_keys_keeps_its_small_weights() -> None:
    """Weights of about 1/1000 would all be 0 in steps of 1/256."""
    torch.manual_seed(0)
    model, inputs = Attend().eval(), (torch.randn(1, 16, 32), torch.randn(1, 1000, 32))
    with torch.no_grad():
        assert sqnr(model(*inputs), fxq.quantize(model, [inputs], progress=False)(*inputs)) > 30.0


def _kinds(module: fxq.FxqModule) -> list[str]:
    return [type(each).__name__ for each in module.modules() if not list(each.children())]


def _all(module: nn.Module, batches: list[Tensor]) -> Tensor:
    return outputs(module, batches)
