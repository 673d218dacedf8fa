"""What fxq knows to leave in float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.graph.float_only import FLOAT_ONLY, why_float
from fxq.graph.ops import OPS
from fxq.graph.reasons import Why

TARGETS = [target for row in FLOAT_ONLY for target in row.targets]


def test_nothing_has_two_rows() -> None:
    spelled = {spelling.target for op in OPS for spelling in op.spellings}
    assert len(set(TARGETS)) == len(TARGETS) and spelled.isdisjoint(TARGETS)
    assert why_float(torch.relu) is None and why_float("no_method") is None


def test_methods_are_those_of_tensors() -> None:
    assert not [target for target in TARGETS if isinstance(target, str) and not hasattr(Tensor, target)]


class Between(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.function, self.last = nn.Linear(6, 6), function, nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.function(torch.relu(self.first(x))))
        return y


@pytest.mark.parametrize(
    ("function", "name", "detail"),
    [
        (lambda x: torch.log(x + 1.0), "log", "log is steeper near 0 than the steps of 8 bits can follow"),
        (
            lambda x: torch.cumsum(x, 1),
            "cumsum",
            "cumsum adds up more and more of its input, and 8 bits would hold the first sums coarsely",
        ),
        (nn.RMSNorm(6), "function", "rms_norm has no integer form"),
        (lambda x: (x > 0).float() * x, "gt", "gt compares, and its result is true or false"),
        (lambda x: (~(x > 0) | (x > 1)).float() * x, "invert", "invert compares, and its result is true or false"),
        (lambda x: x.gather(1, x.argsort(1)), "gather", "gather takes elements from places that another tensor names"),
        (lambda x: x.topk(6).values, "topk", "topk gives indices, also where it gives values as well"),
    ],
)
def test_the_report_says_why(function: Any, name: str, detail: str) -> None:
    torch.manual_seed(0)
    found = fxq.report(fxq.quantize(Between(function), [torch.rand(4, 6) + 0.5], progress=False)).row(name).reason
    assert found is not None and (found.why, found.detail) == (Why.FLOAT_ONLY, detail)
