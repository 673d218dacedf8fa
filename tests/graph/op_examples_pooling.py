"""Examples of pooling and reductions. See op_example.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.graph.op_example import D1, D2, D3, Example, Examples, called, made


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


def _extrema(name: str, target: Callable[..., Any]) -> tuple[Example, ...]:
    return (
        called(lambda x: target(x), f"{name}(x)"),
        called(lambda x: target(x, 1), f"{name}(x, dim=1)"),
        called(lambda x: target(x, dim=[2, -1], keepdim=True), f"{name}(x, dim=(2, -1), keepdim=True)"),
    )


def _of_two(name: str, target: Callable[..., Any]) -> tuple[Example, ...]:
    return (
        called(lambda x, y: target(x, y), f"{name}(x, y)", second=True),
        called(lambda x, a: target(x, other=a), f"{name}(x, @m.a[8])", constants=((8,),)),
    )


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
    ("sum", torch.sum): (
        called(lambda x: torch.sum(x), "sum(x)"),
        called(lambda x: torch.sum(x, [2, 3]), "sum(x, dim=(2, 3))"),
        called(lambda x: torch.sum(x, dim=1, keepdim=True), "sum(x, dim=1, keepdim=True)"),
    ),
    ("sum", "sum"): (called(lambda x: x.sum(), "sum(x)"), called(lambda x: x.sum((0, -1), True), "sum(x, dim=(0, -1), keepdim=True)")),
    ("amax", torch.amax): _extrema("amax", torch.amax),
    ("amax", "amax"): _extrema("amax", lambda x, *args, **kwargs: x.amax(*args, **kwargs)),
    ("amin", torch.amin): _extrema("amin", torch.amin),
    ("amin", "amin"): _extrema("amin", lambda x, *args, **kwargs: x.amin(*args, **kwargs)),
    ("maximum", torch.maximum): _of_two("maximum", torch.maximum),
    ("maximum", "maximum"): _of_two("maximum", lambda x, other: x.maximum(other)),
    ("maximum", torch.max): _of_two("maximum", torch.max),
    ("maximum", "max"): _of_two("maximum", lambda x, other: x.max(other)),
    ("minimum", torch.minimum): _of_two("minimum", torch.minimum),
    ("minimum", "minimum"): _of_two("minimum", lambda x, other: x.minimum(other)),
    ("minimum", torch.min): _of_two("minimum", torch.min),
    ("minimum", "min"): _of_two("minimum", lambda x, other: x.min(other)),
}
