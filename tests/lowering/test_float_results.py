"""A result that only float ops read is written as float32 from the accumulators, not rounded to 8 bits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq


class _Ending(nn.Module):
    """relu(conv(x)), then the op in question."""

    def __init__(self, op: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.op = nn.Conv2d(3, 4, 3), op

    def forward(self, x: Tensor) -> Tensor:
        return self.op(F.relu(self.conv(x)))


ENDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "avg_pool": lambda x: F.avg_pool2d(x, 2),
    "adaptive_avg_pool": lambda x: F.adaptive_avg_pool2d(x, (1, 1)),
    "mean": lambda x: torch.mean(x, (2, 3)),
}


@pytest.mark.parametrize("profile", ["x86", "qnnpack"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_averages(ending: str, profile: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    prepared = fxq.prepare_fx(_Ending(ENDINGS[ending]).eval(), fxq.get_default_qconfig_mapping(profile), (x,), profile=profile)
    fxq.calibrate(prepared, [x])
    reference, lowered = fxq.convert_to_reference_fx(prepared), fxq.convert_fx(prepared)
    y = lowered(x)
    assert y.dtype == torch.float32
    assert "y: float32" in str(lowered.get_submodule(f"{ending}2d" if "pool" in ending else ending))
    # of the four or more values in an average, one may lie a quantization step apart
    step = next(node.kwargs["scale"] for node in reference.graph.nodes if node.name == "conv_q")
    assert float((y - reference(x)).abs().max()) < 0.26 * step
