"""Ops that compute rows from rows: any leading dimensions, any float dtype."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fxq.errors import DataError
from fxq.runtime.dynamic.op import OneTensorOp


class RowOp(OneTensorOp):
    """y = f(x), row by row, in float32."""

    @property
    def in_features(self) -> int:
        """Of a row of x."""
        raise NotImplementedError

    @property
    def out_features(self) -> int:
        """Of a row of y."""
        raise NotImplementedError

    def by_torch(self, rows: Tensor) -> Tensor:
        """f32 [rows, I] → f32 [rows, O], by torch's ops: what compiled code means."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """x [..., I] of any float dtype → y [..., O] of x's dtype. Raises DataError for other dtypes and shapes."""
        self._check(x)
        return super().forward(x)

    def compute(self, x: Tensor) -> Tensor:
        rows = x if x.dtype == torch.float32 else x.to(torch.float32)
        rows = rows.reshape(-1 if x.numel() else math.prod(x.shape[:-1]), self.in_features)
        compiled = self.compiled(rows)
        y = self.by_torch(rows) if compiled is None else compiled(rows.contiguous())
        y = y.view(*x.shape[:-1], self.out_features)
        return y if y.dtype == x.dtype else y.to(x.dtype)

    def like(self, x: Tensor) -> Tensor:
        return x.new_empty((*x.shape[:-1], self.out_features))

    def _check(self, x: Tensor) -> None:
        if x.ndim == 0 or x.shape[-1] != self.in_features or not x.is_floating_point():
            raise DataError(
                type(self).__name__,
                expected=f"a float tensor [..., {self.in_features}]",
                found=f"{x.dtype} {tuple(x.shape)}",
                remedy="give it the number of features it was converted with",
            )
