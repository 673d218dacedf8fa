"""WeightOnlyObserver: asks for weights of few bits that meet float values."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from fxq.graph.qtypes import WEIGHT_PER_CHANNEL, QuantSpec
from fxq.graph.weight_format import Bits, WeightFormat
from fxq.observers.factory import ObserverFactory
from fxq.observers.fixed import PlaceholderObserver


class WeightOnlyObserver(PlaceholderObserver):
    """Carries a format; scales are found where the weights are stored.

    Args:
        bits: 4 or 8; 16 for float16.
        group_size: inputs that share a scale, a multiple of 8; 0: all of a row.
        symmetric: weights have no zero.
    """

    default_spec: ClassVar[QuantSpec] = replace(WEIGHT_PER_CHANNEL, qmin=-128, symmetric=False)

    def __init__(self, spec: QuantSpec | None = None, bits: Bits = 8, group_size: int = 0, symmetric: bool = False) -> None:
        super().__init__(spec)
        self._format = WeightFormat(bits, group_size, symmetric)

    @staticmethod
    def format_of(factory: ObserverFactory) -> WeightFormat | None:
        """What a factory asks for; None for one of other observers."""
        if not issubclass(factory.kind, WeightOnlyObserver):
            return None
        made = factory()
        assert isinstance(made, WeightOnlyObserver)
        return made._format


# a scale and a zero, both float, for each row
default_float_qparams_observer = WeightOnlyObserver.with_args(bits=8)
default_float_qparams_observer_4bit = WeightOnlyObserver.with_args(bits=4)
