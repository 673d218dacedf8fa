"""torchvision's architectures train for some steps with small images, and convert to what was simulated."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import fxq
from benchmarks.architectures import import_models, sqnr

CLASSES, SIZE, STEPS = 4, 32, 8


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "resnet18", "shufflenet_v2_x1_0"])
def test_trains_and_converts(name: str) -> None:
    try:
        models = import_models()
    except ImportError:
        pytest.skip("torchvision is not installed: pip install --no-deps torchvision")
    torch.manual_seed(0)
    model = getattr(models, name)(num_classes=CLASSES).train()
    labels = torch.arange(8) % CLASSES
    x = torch.randn(8, 3, SIZE, SIZE) + labels.reshape(-1, 1, 1, 1) / 2
    qat = fxq.prepare_qat_fx(model, fxq.get_default_qat_qconfig_mapping("x86"), (x[:2],))
    optimizer = torch.optim.SGD(qat.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        loss = F.cross_entropy(qat(x), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    qat.eval()
    reference, int8 = fxq.convert_to_reference_fx(qat), fxq.convert_fx(qat)
    with torch.no_grad():
        simulated = qat(x)
        assert torch.equal(reference(x), simulated)
        assert sqnr(simulated, int8(x)) > 30.0
