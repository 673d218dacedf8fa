"""The benchmark of layers that quantize what arrives, on a small model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks import dynamic


class Scaled(nn.Module):
    """A linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(x)
        return found


@pytest.mark.filterwarnings("ignore")
def test_every_contender_is_checked_and_timed() -> None:
    subject = dynamic.Subject(
        "small", Scaled, lambda length, batch: torch.randn(batch, length, 16), (3, 5), peers=("onnxruntime", "openvino")
    )
    timings = list(dynamic.measure(subject, 1, 2, rounds=1))
    names = list(dict.fromkeys(each.contender for each in timings))
    assert [each.model for each in timings] == ["small, 3"] * len(names) + ["small, 5"] * len(names)
    assert names[:5] == ["float32", "fxq", "fxq by modules", "torch.ao", "onnxruntime"]
    assert all(0 < each.least <= each.median for each in timings)


def test_recurrent_layers_have_no_form_in_onnx_runtime() -> None:
    subject = next(each for each in dynamic.SUBJECTS if each.name == "lstm_512x2")
    assert list(dynamic.contenders(subject, dynamic.Recurrent(), torch.randn(2, 1, 512), 1)) == [
        "float32",
        "fxq",
        "fxq by modules",
        "torch.ao",
    ]
