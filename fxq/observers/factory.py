"""ObserverFactory: an observer class and its arguments as a value, which a configuration can hold, compare and write to JSON."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    JsonValue,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from fxq.errors import ConfigError
from fxq.graph.qtypes import QuantSpec
from fxq.observers.spec_args import SPEC_ARGS, plain_args, spec_from_args

if TYPE_CHECKING:
    from fxq.observers.base import Observer


class ObserverFactory(BaseModel):
    """factory() → a new observer. Two factories are equal if the observers that they make are.

    `MinMaxObserver.with_args(...)` makes one; so does JSON, for the classes in `fxq.observers.OBSERVERS`.

    Attributes:
        observer: name of the observer class.
        args: its arguments as JSON values: dtype "uint8", qscheme "per_tensor_affine", quant_min, ..., and the class's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    observer: str
    args: dict[str, JsonValue] = {}

    # only for a class of the user's: a name says nothing about where to find it
    _user_class: Any = PrivateAttr(default=None)

    @classmethod
    def of(cls, kind: type[Observer], args: Mapping[str, Any]) -> ObserverFactory:
        """The factory of a class and its arguments, checked. Raises ConfigError."""
        made = cls.model_construct(observer=kind.__name__, args=plain_args(args))
        if kind is not _built_in().get(kind.__name__):
            made._user_class = kind
        made._check_args()
        return made

    @model_validator(mode="before")
    @classmethod
    def _plain_values(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("args"), Mapping):
            return {**data, "args": plain_args(data["args"])}
        return data

    @model_validator(mode="after")
    def _checked(self) -> ObserverFactory:
        self._check_args()
        return self

    @model_serializer(mode="wrap")
    def _serialize(self, write: SerializerFunctionWrapHandler, context: SerializationInfo) -> dict[str, Any]:
        if context.mode == "json" and self._user_class is not None:
            raise ConfigError(
                f"observer {self.observer}",
                expected="an observer class of fxq.observers, which a file can name",
                found=f"{self._user_class.__module__}.{self._user_class.__qualname__}",
                remedy="keep this configuration in Python and build it there, or use a built-in observer",
            )
        fields: dict[str, Any] = write(self)
        return fields

    @property
    def kind(self) -> type[Observer]:
        """The observer class. Raises ConfigError, with the closest names, if there is none of this name."""
        found: type[Observer] | None = self._user_class or _built_in().get(self.observer)
        if found is None:
            close = difflib.get_close_matches(self.observer, _built_in(), n=3, cutoff=0.4) or sorted(_built_in())
            raise ConfigError(
                f"observer {self.observer!r}",
                expected="the name of a class in fxq.observers.OBSERVERS",
                found=repr(self.observer),
                remedy=f"did you mean {', '.join(close)}? A class of your own is given in Python: MyObserver.with_args(...)",
            )
        return found

    @property
    def spec(self) -> QuantSpec:
        """What the observers are asked for."""
        return spec_from_args(self.kind.default_spec, self.args)

    def with_args(self, **more: Any) -> ObserverFactory:
        """The same factory with further arguments; a later one replaces an earlier one."""
        return ObserverFactory.of(self.kind, {**self.args, **plain_args(more)})

    def __call__(self) -> Observer:
        """A new observer that has seen nothing. Raises ConfigError if an argument is missing or does not fit."""
        missing = [name for name, required in _own_args(self.kind).items() if required and name not in self.args]
        if missing:
            raise ConfigError(
                f"{self.observer}.with_args",
                expected=f"{', '.join(missing)}, which {self.observer} cannot do without",
                found=", ".join(self.args) or "no arguments",
                remedy=f"{self.observer}.with_args({', '.join(f'{name}=...' for name in missing)})",
            )
        return self.kind(self.spec, **self._own_values())

    def __eq__(self, other: object) -> bool:
        """The same class, spec and own arguments, however they were spelled."""
        return isinstance(other, ObserverFactory) and self._key() == other._key()

    def __hash__(self) -> int:
        """By value, like ==."""
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (self.kind, self.spec, json.dumps(self._own_values(), sort_keys=True))

    def _own_values(self) -> dict[str, Any]:
        return {name: value for name, value in self.args.items() if name not in SPEC_ARGS}

    def _check_args(self) -> None:
        accepted = [*SPEC_ARGS, "spec", *_own_args(self.kind)]
        unknown = [name for name in self.args if name not in accepted]
        if unknown:
            raise ConfigError(
                f"{self.observer}.with_args",
                expected=f"arguments among {', '.join(accepted)}",
                found=", ".join(unknown),
                remedy=f"drop {'it' if len(unknown) == 1 else 'them'}, or correct the spelling",
            )
        self.kind.check_spec(self.spec)


def _built_in() -> dict[str, type[Observer]]:
    # imported when called: the classes of this table themselves need ObserverFactory
    from fxq.observers import OBSERVERS

    return {kind.__name__: kind for kind in OBSERVERS}


def _own_args(kind: type[Observer]) -> dict[str, bool]:
    """Arguments of a class beside spec → whether it is required."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: p.default is p.empty for p in parameters if p.name != "spec" and p.kind in named}
