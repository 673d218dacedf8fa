"""Small networks that are trained for a few steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq

X86 = fxq.get_default_qat_qconfig_mapping("x86")


def conv_bn(inputs: int, outputs: int, kernel: int = 3, **options: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, bias=False, **options), nn.BatchNorm2d(outputs)]  # type: ignore[arg-type]


def small(seed: int = 0) -> nn.Sequential:
    """conv-bn-relu6, grouped conv-bn-hardswish, linear: f32 [N, 3, 8, 8] → f32 [N, 4]."""
    torch.manual_seed(seed)
    return nn.Sequential(
        *conv_bn(3, 8), nn.ReLU6(), *conv_bn(8, 8, groups=4), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )


class Residual(nn.Module):
    """A shared convolution, a residual sum, dropout, a batch norm that stands alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(8)
        self.bn3 = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.stem(x)))
        y = torch.relu(self.bn2(self.shared(y)) + y)
        y = self.bn3(torch.relu(self.shared(y)))
        return self.fc(self.dropout(y.mean((2, 3))))


def batches(count: int, size: int = 16, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Images, and which of four brightnesses they have."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randn(size, 3, 8, 8, generator=generator) + torch.randn(size, 1, 1, 1, generator=generator) for _ in range(count)]
    return [(each, torch.bucketize(each.mean((1, 2, 3)), torch.tensor([-0.7, 0.0, 0.7]))) for each in images]


def prepared(model: nn.Module, mapping: fxq.QConfigMapping = X86) -> fxq.FxqModule:
    return fxq.prepare_qat_fx(model.train(), mapping, (torch.randn(2, 3, 8, 8),))


def fit(model: nn.Module, data: list[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer | None = None) -> list[float]:
    """One step for each batch; the losses."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return [step(model, batch, optimizer) for batch in data]


def step(model: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor], optimizer: torch.optim.Optimizer) -> float:
    loss = F.cross_entropy(model(batch[0]), batch[1])
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()
