"""Training under autocast in bf16, on CPUs and, where there is one, on a GPU."""

from __future__ import annotations

import pytest
import torch

import fxq
from fxq.qat import FakeQuantize
from fxq.qat.learned import get_lsq_qconfig
from tests.qat.cases import X86, Residual, batches, prepared, step

LSQ = fxq.QConfigMapping().set_global(get_lsq_qconfig())
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


@pytest.mark.parametrize("mapping", [X86, LSQ], ids=["moving average", "lsq"])
@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_trains_in_bf16_and_observes_in_f32(device: str, mapping: fxq.QConfigMapping) -> None:
    qat = prepared(Residual(), mapping).to(device)
    optimizer = torch.optim.SGD(qat.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for images, labels in batches(40):
        with torch.autocast(device, dtype=torch.bfloat16):
            losses.append(step(qat, (images.to(device), labels.to(device)), optimizer))
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    fake = [module for module in qat.modules() if isinstance(module, FakeQuantize)]
    assert {module.scale.dtype for module in fake} == {torch.float32}
    assert {module.scale.device.type for module in fake if module.batches} == {device}
    qat = qat.cpu().eval()
    x = batches(1)[0][0]
    assert torch.equal(fxq.convert_to_reference_fx(qat)(x), qat(x))
