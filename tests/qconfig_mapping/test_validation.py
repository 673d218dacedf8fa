"""pydantic's errors as ConfigErrors."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, field_validator

from fxq.errors import ConfigError
from fxq.qconfig_mapping.validation import checked


class Inner(BaseModel):
    size: int


class Outer(BaseModel):
    inner: Inner
    name: str = ""

    @field_validator("name")
    @classmethod
    def _short(cls, name: str) -> str:
        if len(name) > 3:
            raise ConfigError("name", expected="a short name", found=name, remedy="shorten it")
        return name


def test_what_is_right_is_built() -> None:
    assert checked(Outer, "file", {"inner": {"size": 3}}) == Outer(inner=Inner(size=3))


def test_every_wrong_field_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        checked(Outer, "file", {"inner": {}, "name": 3})
    assert caught.value.where == "file.inner.size"
    assert caught.value.expected == "inner.size: Field required; name: Input should be a valid string"
    assert caught.value.found == "inner.size: nothing; name: 3"


def test_what_is_no_record_at_all() -> None:
    with pytest.raises(ConfigError) as caught:
        checked(Outer, "file", "x" * 200)
    assert caught.value.where == "file"
    assert caught.value.found == f"'{'x' * 116}..."


def test_own_errors_are_given_their_place() -> None:
    with pytest.raises(ConfigError) as caught:
        checked(Outer, "file", {"inner": {"size": 3}, "name": "long name"})
    error = caught.value
    assert (error.where, error.expected, error.found, error.remedy) == ("file: name", "a short name", "long name", "shorten it")
