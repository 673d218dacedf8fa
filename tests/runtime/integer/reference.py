"""The formulas of numerics.md in numpy: slow, with nothing shared with the package but the dataclasses that hold constants."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.runtime.integer.conv import ConvGeometry
from fxq.runtime.integer.outputs import FloatOutput, Output, PackedWeights, Residual

Array = NDArray[Any]
Ends = tuple[Output, Array | None]  # what becomes of the accumulators: the output, and a rescaled second operand
PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def finish(values: Array, output: Output) -> Tensor:
    """clip(rint(v) + z, low, high), or clamp(v)."""
    assert values.dtype == np.float32
    if isinstance(output, FloatOutput):
        return torch.from_numpy(np.asarray(np.clip(values, np.float32(output.low), np.float32(output.high))))
    clipped = np.clip(np.rint(values.astype(np.float64)) + output.zero_point, output.low, output.high)
    return torch.from_numpy(np.asarray(clipped).astype(output.dtype))


def rescale(a: Tensor, zero_point: int, ratio: float) -> Array:
    """fl(f32(a − z)·ratio)."""
    return (a.numpy().astype(np.int64) - zero_point).astype(np.float32) * np.float32(ratio)


def requantize(acc: Array, multiplier: Array, output: Output, second: Array | None) -> Tensor:
    """acc int64, the bias in it; multiplier broadcast already."""
    assert np.abs(acc).max(initial=0) < 2**31
    values = acc.astype(np.int32).astype(np.float32) * multiplier
    return finish(values if second is None else values + second, output)


def linear(x: Tensor, weights: PackedWeights, output: Output, second: Array | None = None) -> Tensor:
    acc = x.numpy().astype(np.int64) @ weights.weight.numpy().astype(np.int64).T + weights.bias.numpy()
    return requantize(acc, weights.multiplier.numpy(), output, second)


def accumulate(padded: Array, weight: Array, geometry: ConvGeometry) -> Array:
    """Σ over taps, one tap at a time: int64 [N, O, *counts]."""
    kernel = weight.shape[2:]
    reach = [gap * (taps - 1) + 1 for gap, taps in zip(geometry.dilation, kernel, strict=True)]
    sizes = zip(padded.shape[2:], reach, geometry.stride, strict=True)
    counts = [(length - over) // step + 1 for length, over, step in sizes]
    acc = np.zeros((padded.shape[0], weight.shape[0], *counts), np.int64)
    per_group, outputs = weight.shape[1], weight.shape[0] // geometry.groups
    for tap in itertools.product(*(range(taps) for taps in kernel)):
        starts = [place * gap for place, gap in zip(tap, geometry.dilation, strict=True)]
        spans = zip(starts, counts, geometry.stride, strict=True)
        under = padded[(..., *(slice(start, start + (count - 1) * step + 1, step) for start, count, step in spans))]
        for group in range(geometry.groups):
            channels = under[:, group * per_group : (group + 1) * per_group]
            into = slice(group * outputs, (group + 1) * outputs)
            acc[:, into] += np.einsum("nc...,oc->no...", channels, weight[(into, slice(None), *tap)])
    return acc


def conv(x: Tensor, weights: PackedWeights, geometry: ConvGeometry, zero_point: int, ends: Ends) -> Tensor:
    output, second = ends
    borders = [(0, 0), (0, 0), *geometry.padding]
    fill = {"constant_values": zero_point} if geometry.padding_mode == "zeros" else {}
    padded = np.pad(x.numpy().astype(np.int64), borders, mode=PAD_MODES[geometry.padding_mode], **fill)
    shape = (1, -1) + (1,) * geometry.rank
    acc = accumulate(padded, weights.weight.numpy().astype(np.int64), geometry) + weights.bias.numpy().reshape(shape)
    return requantize(acc, weights.multiplier.numpy().reshape(shape), output, second)


def random_bytes(shape: Sequence[int], dtype: torch.dtype = torch.uint8, seed: int = 0) -> Tensor:
    bounds = torch.iinfo(dtype)
    return torch.randint(bounds.min, bounds.max + 1, tuple(shape), dtype=dtype, generator=torch.Generator().manual_seed(seed))


def random_weights(shape: Sequence[int], seed: int = 0) -> PackedWeights:
    """Multipliers such that outputs of this depth spread over the 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-127, 128, tuple(shape), dtype=torch.int8, generator=generator)
    bias = torch.randint(-30000, 30000, (shape[0],), dtype=torch.int32, generator=generator)
    depth = weight[0].numel() if shape[0] else 1
    multiplier = (torch.rand(shape[0], generator=generator) + 0.1) * 60 / (127 * 128 * max(1, depth) ** 0.5)
    return PackedWeights(weight, bias, multiplier)


def second_operand(a: Tensor | None, residual: Residual | None) -> Array | None:
    return None if a is None or residual is None else rescale(a, residual.zero_point, residual.ratio)
