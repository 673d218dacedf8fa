"""Reading torch.ao's objects by their attributes. torch.ao is never imported: it is on its way out of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fxq.errors import ConfigError

_MODULES = ("torch.ao.quantization.", "torch.quantization.")

_Result = TypeVar("_Result")


def is_torch_aos(kind: type) -> bool:
    """Whether a class is one of torch.ao.quantization."""
    return f"{kind.__module__}.".startswith(_MODULES)


def fields_of(given: object, known: Sequence[str], where: str) -> dict[str, Any]:
    """The attributes of an object, by name; None for one that it lacks.

    Raises ConfigError for one that is set and not known: it would be lost in silence.
    """
    fields = {**dict.fromkeys(known), **vars(given)}
    unknown = [name for name, value in fields.items() if name not in known and value]
    if unknown:
        raise ConfigError(
            f"{where}.{unknown[0]}",
            expected=f"only the fields {', '.join(known)}",
            found=f"{unknown[0]}={fields[unknown[0]]!r}"[:200],
            remedy="leave it unset: fxq has nothing like it",
        )
    return fields


def in_field(where: str, read: Callable[..., _Result], *args: Any) -> _Result:
    """read(*args), with the field that was read in front of what a ConfigError is about."""
    try:
        return read(*args)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.where}", expected=error.expected, found=error.found, remedy=error.remedy) from None


def each_in_field(where: str, read: Callable[[Any], _Result], rows: Mapping[Any, Any]) -> dict[Any, _Result]:
    """The values of a mapping read one by one; messages name the key."""
    return {key: in_field(f"{where}[{getattr(key, '__name__', key)!r}]", read, value) for key, value in rows.items()}
