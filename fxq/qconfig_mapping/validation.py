"""pydantic's complaints, said in the four parts of a ConfigError."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from fxq.errors import ConfigError

_Model = TypeVar("_Model", bound=BaseModel)


def checked(model: type[_Model], where: str, fields: object) -> _Model:
    """fields → model(**fields); whatever is wrong is a ConfigError that names `where` and the field."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise from_pydantic(where, error) from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.where}", expected=error.expected, found=error.found, remedy=error.remedy) from None


def from_pydantic(where: str, error: ValidationError) -> ConfigError:
    """One ConfigError for all that pydantic found; `where` goes on to the first field that is wrong."""
    problems = error.errors(include_url=False, include_context=False)
    paths = [".".join(map(str, problem["loc"])) for problem in problems]
    named = [(f"{path}: " if path else "", problem) for path, problem in zip(paths, problems, strict=True)]
    return ConfigError(
        f"{where}.{paths[0]}" if paths[0] else where,
        expected="; ".join(name + problem["msg"] for name, problem in named),
        found="; ".join(name + ("nothing" if problem["type"] == "missing" else _shown(problem["input"])) for name, problem in named),
        remedy="correct these fields, or remove those that don't belong there",
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
