"""y = T[q]: any unary function on 8-bit data, by a table of its 256 values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.graph.qtypes import QParams
from fxq.runtime.integer.elementwise import flat_parts
from fxq.runtime.integer.module import IntegerOp, check_bytes

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def build_table(f: Function, x: QParams, y: QParams) -> Tensor:
    """T[q] = clip(rint(f(s_x·(q − z_x))·inv_y) + z_y); NaN → qmin, ±inf saturate.

    All of it in float64 from the f32 scales: s_x·(q − z_x) is exact there, inv_y = f64(fl(1f/s_y)) is the f32 reciprocal that every
    quantization uses, and f(·)·inv_y and rint are float64. Indexed by q − qmin of the input's dtype, so int8 inputs by q + 128.

    Args:
        f: elementwise on a float64 array of 256 values.
        x, y: per tensor, uint8 or int8 each.

    Returns:
        256 entries of y's dtype, each in [y.spec.qmin, y.spec.qmax].
    """
    first = -128 if x.spec.dtype == "int8" else 0
    reals = (np.arange(first, first + 256, dtype=np.float64) - int(x.zero_point)) * float(x.scale)
    inverse = float(1.0 / y.scale)
    with np.errstate(all="ignore"):  # f may leave its domain on values that the input never takes
        scaled = np.rint(np.asarray(f(reals), dtype=np.float64) * inverse) + int(y.zero_point)
    entries = np.clip(np.nan_to_num(scaled, nan=y.spec.qmin), y.spec.qmin, y.spec.qmax)
    return torch.from_numpy(entries.astype(np.int64)).to(y.spec.torch_dtype)


class Table(IntegerOp):
    """y = T[q] for uint8 q, T[q + 128] for int8 q.

    Args:
        table: u8 or s8 [256].
    """

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def forward(self, x: Tensor) -> Tensor:
        """x u8 or s8 of any shape → the table's dtype, same shape and layout. Raises DataError for other dtypes."""
        check_bytes("Table", x)
        y = torch.empty_like(x, dtype=self.table.dtype)
        for out, part in flat_parts(y, (x,)):
            index = part.to(torch.int32)
            if x.dtype == torch.int8:
                index.add_(128)
            out.copy_(self.table.index_select(0, index.reshape(-1)).view(index.shape))
        return y

    def extra_repr(self) -> str:
        return f"y: {str(self.table.dtype).removeprefix('torch.')} [{int(self.table.min())}, {int(self.table.max())}]"
