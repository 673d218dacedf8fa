"""LSTM, GRU and RNN in float32, their weights in few bits or float16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fxq.graph.groups import GroupedWeights
from fxq.graph.weight_format import WeightFormat
from fxq.runtime.dynamic.layers import Product
from fxq.runtime.dynamic.recurrent import Recurrent, RecurrentCell, RecurrentLayers, RecurrentShape
from fxq.runtime.integer.outputs import FloatOutput
from fxq.runtime.weight_only.product import GroupedProduct

_KINDS = ("weight", "scale", "zero", "bias")


@dataclass(frozen=True, eq=False)
class Stored:
    """The tensors of GroupedWeights."""

    weight: Tensor
    scale: Tensor | None
    zero: Tensor | None
    bias: Tensor | None


class WeightOnlyRecurrent(Recurrent):
    """Holds weight_ih_l0, scale_ih_l0, zero_ih_l0, bias_ih_l0, and so on; sums are float32, within the bound of WeightOnlyLinear.

    Args:
        shape: of the module.
        format: how weights are stored.
        stored: "ih_l0", "hh_l0", ... → its matrix.
    """

    def __init__(self, shape: RecurrentShape, format: WeightFormat, stored: Mapping[str, Stored]) -> None:
        super().__init__(shape)
        self.format = format
        for name, matrix in stored.items():
            for kind in _KINDS:
                self.register_buffer(f"{kind}_{name}", getattr(matrix, kind))

    @property
    def stored(self) -> dict[str, Stored]:
        """The tensors that it has now."""
        return {name: Stored(*(getattr(self, f"{kind}_{name}") for kind in _KINDS)) for name in self.shape.matrices()}

    @property
    def weights(self) -> dict[str, GroupedWeights]:
        """What these stand for."""
        sizes = self.shape.matrices()
        return {
            name: GroupedWeights(each.weight, each.scale, each.zero, self.format, sizes[name][1], each.bias)
            for name, each in self.stored.items()
        }

    def products(self) -> Mapping[str, Product]:
        return {name: GroupedProduct(weights, FloatOutput()) for name, weights in self.weights.items()}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, w: {self.format}"


class WeightOnlyRNN(WeightOnlyRecurrent, RecurrentLayers):
    """Layers in float32."""

    def _get_name(self) -> str:
        return f"WeightOnly{self.shape.torch_name}"


class WeightOnlyRNNCell(WeightOnlyRecurrent, RecurrentCell):
    """A cell in float32."""

    def _get_name(self) -> str:
        return f"WeightOnly{self.shape.torch_name}Cell"
