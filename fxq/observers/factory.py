"""ObserverFactory: an observer class and its arguments as a value, which a configuration can hold, compare and write to JSON."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, JsonValue, SerializationInfo, model_serializer
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.observers.spec_args import SPEC_ARGS, plain_args, spec_from_args

if TYPE_CHECKING:
    from fxq.observers.base import Observer


class ObserverFactory(BaseModel):
    """factory() → a new observer. Two factories are equal if the observers that they make are.

    `MinMaxObserver.with_args(...)` makes one; `fxq.observers.read_factory` reads what one writes to JSON.

    Attributes:
        kind: the observer class.
        args: its arguments as JSON values: dtype "uint8", qscheme "per_tensor_affine", quant_min, ..., and the class's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: type[Any]
    args: dict[str, JsonValue] = {}

    @classmethod
    def of(cls, kind: type[Observer], args: Mapping[str, Any]) -> ObserverFactory:
        """The factory of a class and its arguments, checked. Raises ConfigError."""
        made = cls(kind=kind, args=plain_args(args))
        made._check_args()
        return made

    @model_serializer
    def _serialize(self, context: SerializationInfo) -> dict[str, Any]:
        """JSON names the class, and a name only says where to find a class of fxq."""
        if context.mode != "json":
            return {"kind": self.kind, "args": self.args}
        if not self.kind.__module__.startswith("fxq.observers."):
            raise ConfigError(
                f"observer {self.observer}",
                expected="an observer class of fxq.observers, which a file can name",
                found=f"{self.kind.__module__}.{self.kind.__qualname__}",
                remedy="keep this configuration in Python and build it there, or use a built-in observer",
            )
        return {"observer": self.observer, **({"args": self.args} if self.args else {})}

    @property
    def observer(self) -> str:
        """Name of the observer class."""
        return self.kind.__name__

    @cached_property
    def spec(self) -> QuantSpec:
        """What the observers are asked for."""
        return spec_from_args(self.kind.default_spec, self.args)

    def with_args(self, **more: Any) -> ObserverFactory:
        """The same factory with further arguments; a later one replaces an earlier one."""
        return ObserverFactory.of(self.kind, {**self.args, **plain_args(more)})

    def __call__(self) -> Observer:
        """A new observer that has seen nothing. Raises ConfigError if an argument is missing or does not fit."""
        if self._missing:
            raise ConfigError(
                f"{self.observer}.with_args",
                expected=f"{', '.join(self._missing)}, which {self.observer} cannot do without",
                found=", ".join(self.args) or "no arguments",
                remedy=f"{self.observer}.with_args({', '.join(f'{name}=...' for name in self._missing)})",
            )
        made: Observer = self.kind(self.spec, **self._own_values())
        return made

    def qparams_of(self, values: Tensor, name: str = "") -> QParams:
        """What an observer finds that has seen these values and nothing else: a weight, say, whose path is the name."""
        observer = self()
        observer.name = name
        observer.observe(values)
        return observer.qparams()

    def __eq__(self, other: object) -> bool:
        """The same class, spec and own arguments, however they were spelled."""
        return isinstance(other, ObserverFactory) and self._key() == other._key()

    def __hash__(self) -> int:
        """By value, like ==."""
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (self.kind, self.spec, json.dumps(self._own_values(), sort_keys=True))

    @property
    def _missing(self) -> list[str]:
        return [name for name, required in self._own_args.items() if required and name not in self.args]

    @property
    def _own_args(self) -> Mapping[str, bool]:
        """Arguments of the class beside spec → whether it is required."""
        return _own_args(self.kind)  # type: ignore[arg-type]  # mypy does not know that classes can be hashed

    def _own_values(self) -> dict[str, Any]:
        return {name: value for name, value in self.args.items() if name not in SPEC_ARGS}

    def _check_args(self) -> None:
        accepted = [*SPEC_ARGS, "spec", *self._own_args]
        unknown = [name for name in self.args if name not in accepted]
        if unknown:
            raise ConfigError(
                f"{self.observer}.with_args",
                expected=f"arguments among {', '.join(accepted)}",
                found=", ".join(unknown),
                remedy=f"drop {'it' if len(unknown) == 1 else 'them'}, or correct the spelling",
            )
        self.kind.check_spec(self.spec)


@cache
def _own_args(kind: type[Observer]) -> Mapping[str, bool]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: p.default is p.empty for p in parameters if p.name != "spec" and p.kind in named}
