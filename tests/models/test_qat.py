"""torchvision's architectures train for some steps with small images, convert to what was simulated, and run in both runtimes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fxq
from benchmarks.architectures import import_models, sqnr
from tests.qat.roundings import different_roundings

CLASSES, SIZE, STEPS = 4, 32, 8
NAMES = ("mobilenet_v2", "mobilenet_v3_large", "resnet18", "shufflenet_v2_x1_0")


def _batch() -> tuple[Tensor, Tensor]:
    """Images whose brightness is their class."""
    labels = torch.arange(8) % CLASSES
    return torch.randn(8, 3, SIZE, SIZE) + labels.reshape(-1, 1, 1, 1) / 2, labels


def _train(qat: fxq.FxqModule, x: Tensor, labels: Tensor) -> Iterator[float]:
    optimizer = torch.optim.SGD(qat.parameters(), lr=0.02, momentum=0.9)
    for _ in range(STEPS):
        loss = F.cross_entropy(qat(x), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield loss.item()


@pytest.mark.parametrize("name", NAMES)
def test_trains_and_converts(name: str) -> None:
    try:
        models = import_models()
    except ImportError:
        pytest.skip("torchvision is not installed: pip install --no-deps torchvision")
    torch.manual_seed(0)
    x, labels = _batch()
    qat = fxq.prepare_qat_fx(getattr(models, name)(num_classes=CLASSES).train(), fxq.get_default_qat_qconfig_mapping("x86"), (x[:2],))
    losses = list(_train(qat, x, labels))
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    qat.eval()
    reference, integer, compiled = (fxq.convert_to_reference_fx(qat), *(fxq.convert_fx(qat, runtime=each) for each in ("integer", "jit")))
    with torch.no_grad():
        simulated, computed = qat(x), integer(x)
        assert torch.equal(reference(x), simulated)
        assert sqnr(simulated, computed) > 30.0
        assert torch.equal(compiled(x), computed)
    alone = different_roundings(qat, x, alone=True)
    assert alone.share < 1e-4 and alone.worst <= 1
    assert different_roundings(qat, x).share < 0.05  # one value moves those of all layers behind it
