"""What ops have in common whose weights are stored in few bits."""

from __future__ import annotations

from torch import Tensor

from fxq.graph.groups import GroupedWeights
from fxq.graph.weight_format import WeightFormat
from fxq.runtime.dynamic.op import DynamicOp


class WeightOnlyOp(DynamicOp):
    """Reads and writes float32; its weights are the floats that few bits stand for.

    Args:
        weights: the constants.
    """

    weight: Tensor
    scale: Tensor | None
    zero: Tensor | None
    bias: Tensor | None

    def __init__(self, weights: GroupedWeights) -> None:
        super().__init__()
        for name in ("weight", "scale", "zero", "bias"):
            self.register_buffer(name, getattr(weights, name))
        self._format, self._shape = weights.format, (weights.outputs, weights.features)

    @property
    def format(self) -> WeightFormat:
        """How weights are stored."""
        return self._format

    @property
    def weights(self) -> GroupedWeights:
        """The constants that it has now."""
        return GroupedWeights(self.weight, self.scale, self.zero, self._format, self._shape[1], self.bias)

    @property
    def constants(self) -> list[Tensor]:
        """Weight, scale, zero and bias, without those that there are not."""
        return [tensor for tensor in self._buffers.values() if tensor is not None]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix."""
        return self._shape
