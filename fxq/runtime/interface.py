"""Where QTensors enter and leave a model that takes or returns them."""

from __future__ import annotations

import torch
from torch import Tensor

from fxq.errors import DataError
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.runtime.integer.module import IntegerOp
from fxq.runtime.qtensor import QTensor


class _Interface(IntegerOp):
    """Holds the qparams of one input or result.

    Args:
        name: of the input or result, for messages.
        qparams: per tensor.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, name: str, qparams: QParams) -> None:
        super().__init__()
        self.name = name
        self.spec: QuantSpec = qparams.spec
        self.register_buffer("scale", qparams.scale)
        self.register_buffer("zero_point", qparams.zero_point)

    @property
    def qparams(self) -> QParams:
        """Scale, zero point and the integers in use."""
        return QParams(self.spec, self.scale, self.zero_point)

    def extra_repr(self) -> str:
        return f"{self.name}: {_described(self.qparams)}"


class QTensorEntry(_Interface):
    """QTensor → its integers."""

    def forward(self, x: QTensor) -> Tensor:
        """Raises DataError for what is no QTensor, and for one with other qparams: other integers would stand for its values."""
        if isinstance(x, QTensor) and x.qparams == self.qparams:
            return x.int_repr()
        raise DataError(
            f"input {self.name}",
            expected=f"a QTensor, {_described(self.qparams)}",
            found=_found(x),
            remedy=f"pass fxq.QTensor.from_float(x, model.{self.name}_entry.qparams)",
        )


class QTensorExit(_Interface):
    """Integers → the QTensor they stand for."""

    def forward(self, integers: Tensor) -> QTensor:
        return QTensor(integers, self.qparams)


def _described(qparams: QParams) -> str:
    return f"{qparams.spec}, scale {qparams.scale.tolist()}, zero point {qparams.zero_point.tolist()}"


def _found(x: object) -> str:
    if isinstance(x, QTensor):
        return f"a QTensor, {_described(x.qparams)}"
    return f"a tensor of {x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__
