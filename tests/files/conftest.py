from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq


class Small(nn.Module):
    """Nodes of every kind of record."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.LocalResponseNorm(2)
        self.fc = nn.Linear(3, 2)
        self.shift = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor, scale: float = 2.0) -> dict[str, Tensor]:
        y = F.adaptive_avg_pool2d(self.norm(self.conv(x)).relu(), 1)
        return {"y": torch.cumsum(self.fc(y.reshape(x.shape[0], -1)), 1) * scale + self.shift.cumprod(0)}


@pytest.fixture(scope="session")
def small_model() -> fxq.FxqModule:
    torch.manual_seed(0)
    return fxq.quantize(Small(), [(torch.randn(1, 2, 4, 4),)], progress=False)


@pytest.fixture(scope="session")
def _stored(small_model: fxq.FxqModule, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("stored") / "small.fxq"
    fxq.save(small_model, path)
    return path.read_bytes()


@pytest.fixture
def small_file(_stored: bytes, tmp_path: Path) -> Path:
    """The small model in a file that a test may change."""
    path = tmp_path / "small.fxq"
    path.write_bytes(_stored)
    return path
