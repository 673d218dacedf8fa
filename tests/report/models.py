"""Small models with known answers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from fxq.graph.module import FxqModule


class Islands(nn.Module):
    """An int8 model with float inside: a batch norm in training mode, a hook and an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(16)
        self.hooked = nn.Conv2d(16, 16, 3, padding=1)
        self.hooked.register_forward_hook(_do_nothing)
        self.lstm = nn.LSTM(128, 32, batch_first=True)
        self.attn = nn.Linear(32, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn(self.conv(x))), 4)
        x = self.bn2(self.conv2(x)) + self.hooked(x)
        batch, channels, height, width = x.shape
        x = x.permute(0, 2, 1, 3).reshape(batch, height, channels * width)
        x, _ = self.lstm(x)
        x = torch.softmax(self.attn(x), -1) * x
        return self.head(x.mean(1))


def _do_nothing(module: nn.Module, inputs: Any, output: Any) -> None: ...


class Block(nn.Module):
    """A residual block and a head: every layer in int8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.conv2(x) + x)
        return self.fc(self.pool(x).flatten(1))


def islands_input() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def block_input() -> Tensor:
    return torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def prepared(model: nn.Module, x: Tensor) -> FxqModule:
    """Calibrated with x alone."""
    observed = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), (x,))
    with torch.no_grad():
        observed(x)
    return observed


def prepared_islands() -> FxqModule:
    torch.manual_seed(0)
    model = Islands().eval()
    model.bn2.train()
    return prepared(model, islands_input())


def prepared_block() -> FxqModule:
    torch.manual_seed(0)
    return prepared(Block().eval(), block_input())
