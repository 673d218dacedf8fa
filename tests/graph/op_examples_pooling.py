"""Examples of pooling and reductions. See op_example.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.graph.op_example import D1, D2, D3, Examples, called, made


def _pool(kind: str, rank: int, module: type[nn.Module], function: Callable[..., Any]) -> Examples:
    shape, two, one, three = (D1, D2, D3)[rank - 1], (2,) * rank, (1,) * rank, (3,) * rank
    return {
        (kind, module): (
            made(module, 2, graph=f"{kind}(x, kernel_size={two}, stride={two})", shape=shape),
            made(
                module,
                3,
                stride=1,
                padding=1,
                ceil_mode=True,
                graph=f"{kind}(x, kernel_size={three}, stride={one}, padding={one}, ceil_mode=True)",
                shape=shape,
            ),
        ),
        (kind, function): (
            called(lambda x: function(x, 2), f"{kind}(x, kernel_size={two}, stride={two})", shape=shape),
            called(
                lambda x: function(x, kernel_size=[3] * rank, stride=1, padding=1),
                f"{kind}(x, kernel_size={three}, stride={one}, padding={one})",
                shape=shape,
            ),
        ),
    }


def _adaptive(kind: str, rank: int, module: type[nn.Module], function: Callable[..., Any]) -> Examples:
    shape, three = (D1, D2, D3)[rank - 1], (3,) * rank
    return {
        (kind, module): (made(module, 3, graph=f"{kind}(x, output_size={three})", shape=shape),),
        (kind, function): (
            called(lambda x: function(x, 3), f"{kind}(x, output_size={three})", shape=shape),
            called(lambda x: function(x, output_size=[3] * rank), f"{kind}(x, output_size={three})", shape=shape),
        ),
    }


POOLING: Examples = {
    **_pool("max_pool", 1, nn.MaxPool1d, F.max_pool1d),
    **_pool("max_pool", 2, nn.MaxPool2d, F.max_pool2d),
    **_pool("max_pool", 3, nn.MaxPool3d, F.max_pool3d),
    ("max_pool", torch.max_pool1d): (
        called(lambda x: torch.max_pool1d(x, 3, 1, 1, 1), "max_pool(x, kernel_size=(3,), stride=(1,), padding=(1,))", shape=D1),
    ),
    ("max_pool", torch.max_pool2d): (
        called(lambda x: torch.max_pool2d(x, (2, 3), dilation=2), "max_pool(x, kernel_size=(2, 3), stride=(2, 3), dilation=(2, 2))"),
    ),
    ("max_pool", torch.max_pool3d): (
        called(lambda x: torch.max_pool3d(x, 2, 1), "max_pool(x, kernel_size=(2, 2, 2), stride=(1, 1, 1))", shape=D3),
    ),
    **_adaptive("adaptive_max_pool", 1, nn.AdaptiveMaxPool1d, F.adaptive_max_pool1d),
    **_adaptive("adaptive_max_pool", 2, nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d),
    **_adaptive("adaptive_max_pool", 3, nn.AdaptiveMaxPool3d, F.adaptive_max_pool3d),
    **_pool("avg_pool", 1, nn.AvgPool1d, F.avg_pool1d),
    **_pool("avg_pool", 2, nn.AvgPool2d, F.avg_pool2d),
    **_pool("avg_pool", 3, nn.AvgPool3d, F.avg_pool3d),
    **_adaptive("adaptive_avg_pool", 1, nn.AdaptiveAvgPool1d, F.adaptive_avg_pool1d),
    **_adaptive("adaptive_avg_pool", 2, nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d),
    **_adaptive("adaptive_avg_pool", 3, nn.AdaptiveAvgPool3d, F.adaptive_avg_pool3d),
    ("mean", torch.mean): (
        called(lambda x: torch.mean(x), "mean(x)"),
        called(lambda x: torch.mean(x, (2, 3)), "mean(x, dim=(2, 3))"),
        called(lambda x: torch.mean(x, dim=1, keepdim=True), "mean(x, dim=1, keepdim=True)"),
    ),
    ("mean", "mean"): (
        called(lambda x: x.mean(), "mean(x)"),
        called(lambda x: x.mean([2, 3], True), "mean(x, dim=(2, 3), keepdim=True)"),
        called(lambda x: x.mean(-1), "mean(x, dim=-1)"),
    ),
}
