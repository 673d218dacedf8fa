"""QConfig: how one layer is quantized, as two observer factories."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from fxq.errors import ConfigError
from fxq.graph.weight_format import WeightFormat
from fxq.observers import Observer, ObserverFactory, WeightOnlyObserver, read_factory
from fxq.qconfig_mapping.validation import from_pydantic

_REMEDY = "give a class of fxq.observers, plain or .with_args(...); to keep a layer float, give None in place of its QConfig"


class QConfig(BaseModel):
    """QConfig(activation=HistogramObserver, weight=PerChannelMinMaxObserver.with_args(ch_axis=0)).

    Frozen, equal and hashable by value; pickle, deepcopy and JSON keep it.

    Attributes:
        activation: makes the observer of the layer's inputs and output.
        weight: makes the observer of its weight.

    Each may be given as an Observer class, which stands for the class with its default arguments.

    Raises:
        ConfigError: one is missing, or is no observer of fxq.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    activation: ObserverFactory
    weight: ObserverFactory

    def __init__(
        self,
        activation: ObserverFactory | type[Observer] | None = None,
        weight: ObserverFactory | type[Observer] | None = None,
        **unknown: object,
    ) -> None:
        if unknown:
            raise ConfigError(
                "QConfig",
                expected="only the fields activation and weight",
                found=", ".join(unknown),
                remedy="correct or remove what is not one of these",
            )
        try:
            super().__init__(activation=activation, weight=weight)
        except ValidationError as error:
            raise from_pydantic("QConfig", error) from None

    @model_validator(mode="before")
    @classmethod
    def _reject_foreign(cls, value: Any) -> Any:
        """torch.ao's QConfig is a named tuple: say so, rather than complain about its fields."""
        if isinstance(value, dict | QConfig):
            return value
        raise ConfigError(
            "QConfig",
            expected="a QConfig of fxq, or None to keep float",
            found=f"{type(value).__module__}.{type(value).__qualname__} {value!r}"[:200],
            remedy="write QConfig(activation=..., weight=...) with classes of fxq.observers; fxq.from_torch_ao reads torch.ao's",
        )

    @field_validator("activation", "weight", mode="before")
    @classmethod
    def _from_class(cls, value: Any, field: Any) -> Any:
        if isinstance(value, ObserverFactory):
            return value
        if isinstance(value, dict):
            return value if "kind" in value else read_factory(value, f"QConfig.{field.field_name}")
        if isinstance(value, type) and issubclass(value, Observer):
            return value.with_args()
        found = "nothing" if value is None else f"{type(value).__name__} {value!r}"[:200]
        raise ConfigError(f"QConfig.{field.field_name}", expected="an Observer class or an ObserverFactory", found=found, remedy=_REMEDY)

    @property
    def weight_format(self) -> WeightFormat | None:
        """How weights are stored that meet float values; None for a QConfig that quantizes these, too."""
        return WeightOnlyObserver.format_of(self.weight)

    @property
    def is_float_outside(self) -> bool:
        """Layers with it read and write float."""
        return bool(self.activation.spec.dynamic) or self.weight_format is not None

    def __str__(self) -> str:
        if self.weight_format is not None:
            return f"activation float32, weight {self.weight_format}"
        return f"activation {_described(self.activation)}, weight {_described(self.weight)}"


def _described(factory: ObserverFactory) -> str:
    return f"{factory.observer}({factory.spec})"
