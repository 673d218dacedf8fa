"""Dynamic quantization: qparams of a batch that is there, one pair for all of it or one for each row."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fxq.graph.qtypes import ACTIVATION, QParams, dequantize_tensor, quantize_tensor

_BY_ROW = replace(ACTIVATION, axis=0)


@dataclass(frozen=True, eq=False)
class RowQParams:
    """What rows are quantized with: real = scale·(q − zero_point), q in 0..255.

    Attributes:
        scale: f32 [rows], NaN for rows with values that are not finite.
        zero_point: i32 [rows].
    """

    scale: Tensor
    zero_point: Tensor


def choose_row_qparams(rows: Tensor, *, per_row: bool) -> RowQParams:
    """[min, max] of the values → qparams, by the affine rule of docs/numerics.md: as `choose_qparams`, in ops that torch can trace.

    A scale is NaN where one of the values that it is for is not finite: so are the results, as in the float model.

    Args:
        rows: f32 [rows, features], with at least one feature.
        per_row: each row has its own; else all have the same.
    """
    low, high = rows.amin(1), rows.amax(1)
    if not per_row and len(rows):
        low, high = low.amin().expand(len(rows)), high.amax().expand(len(rows))
    finite = torch.isfinite(low) & torch.isfinite(high)
    low64, high64 = (end.to(torch.float64).where(finite, 0.0) for end in (low.clamp(max=0.0), high.clamp(min=0.0)))
    scale = ((high64 - low64) / ACTIVATION.qmax).clamp(min=ACTIVATION.eps).to(torch.float32)
    zero_point = torch.round(-low64 / scale).clamp(0, ACTIVATION.qmax).to(torch.int32)
    return RowQParams(scale.where(finite, torch.nan), zero_point)


def quantize_rows(rows: Tensor, qparams: RowQParams) -> Tensor:
    """q = clip(rint(fl(x·inv)) + z), inv = 1f/f32(s); f32 [rows, features] → u8. Rows without a finite scale become 0."""
    return quantize_tensor(rows, QParams(_BY_ROW, qparams.scale, qparams.zero_point))


def dequantize_rows(q: Tensor, qparams: RowQParams) -> Tensor:
    """x' = fl(f32(s)·f32(q − z)); u8 [rows, features] → f32."""
    return dequantize_tensor(q, QParams(_BY_ROW, qparams.scale, qparams.zero_point))
