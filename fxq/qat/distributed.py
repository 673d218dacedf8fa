"""Observation over all ranks of torch.distributed: what each sees together is what one would see."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fxq.observers import MinMaxObserver, Observer


def is_distributed() -> bool:
    """Whether there are several ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def over_all_ranks(observer: Observer, values: Tensor) -> Tensor:
    """values → values from which the observer learns what it would learn from those of all ranks in one batch.

    Observers of smallest and largest values get just these, over all ranks, which is exact in any order; others get the batches of
    all ranks, in the order of ranks. Every rank must call it, and gets the same.

    Args:
        values: f32, this rank's batch.
    """
    if not is_distributed():
        return values
    return _extremes(values, observer.spec.axis) if isinstance(observer, MinMaxObserver) else _gathered(values)


def _extremes(values: Tensor, axis: int | None) -> Tensor:
    """f32 [2] per tensor; per channel with two elements in each channel. NaN becomes inf, so that all ranks see it."""
    rows = values.reshape(1, -1) if axis is None else values.movedim(axis, 0).flatten(1)
    low, high = torch.aminmax(rows, dim=1)
    low, high = low.nan_to_num(nan=-math.inf, neginf=-math.inf), high.nan_to_num(nan=math.inf, posinf=math.inf)
    dist.all_reduce(low, dist.ReduceOp.MIN)
    dist.all_reduce(high, dist.ReduceOp.MAX)
    both = torch.stack((low, high), 1)
    return both.flatten() if axis is None else both.reshape(len(low), 2, *[1] * max(axis - 1, 0)).movedim(0, axis)


def _gathered(values: Tensor) -> Tensor:
    """The batches of all ranks one after the other: they may differ in size."""
    batches: list[Tensor] = [values] * dist.get_world_size()
    dist.all_gather_object(batches, values.cpu())
    return torch.cat([batch.to(values.device) for batch in batches])


def synced_batch_norm(
    x: Tensor, running: tuple[Tensor, Tensor], affine: tuple[Tensor | None, Tensor | None], momentum: float, eps: float
) -> Tensor:
    """γ · (x − μ) / sqrt(σ² + ε) + β with mean and variance of the batches of all ranks. On any device, unlike torch's.

    Args:
        x: [N, C, ...], N may differ between ranks.
        running: mean and variance, f32 [C], which follow those of the batch in place.
        affine: γ and β, f32 [C].
    """
    axes, channels = [axis for axis in range(x.ndim) if axis != 1], (1, -1, *[1] * (x.ndim - 2))
    values = x.to(torch.float32)
    count = _sum_of_ranks(values.new_tensor(x.numel() / x.shape[1]))
    mean = _sum_of_ranks(values.sum(axes)) / count
    centered = values - mean.reshape(channels)
    variance = _sum_of_ranks(centered.square().sum(axes)) / count
    with torch.no_grad():
        for average, newest in zip(running, (mean, variance * count / (count - 1)), strict=True):
            average.lerp_(newest, momentum)
    y = centered * torch.rsqrt(variance + eps).reshape(channels)
    gamma, beta = affine
    y = y if gamma is None else y * gamma.reshape(channels)
    return (y if beta is None else y + beta.reshape(channels)).to(x.dtype)


def _sum_of_ranks(values: Tensor) -> Tensor:
    """Σ over ranks, through which gradients flow to each."""
    summed: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return summed


class _Sum(torch.autograd.Function):
    """y = Σ x over ranks on every rank; so the gradient of x is Σ of those of y."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(_ctx, gradient)
