"""Errors say where, what was expected, what was found, and what to do; and travel between processes."""

from __future__ import annotations

import copy
import pickle

import pytest

from fxq import errors
from fxq.errors import FxqError
from fxq.graph.parse import GraphTextError

KINDS = [*(kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FxqError)), GraphTextError]


def made(kind: type[FxqError]) -> FxqError:
    return kind("conv1", expected="a tensor", found="None", remedy="pass one")


@pytest.mark.parametrize("kind", KINDS)
def test_message(kind: type[FxqError]) -> None:
    assert str(made(kind)) == "conv1\n  expected: a tensor\n  found:    None\n  do:       pass one"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "way", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"]
)
def test_comes_back_as_it_was(kind: type[FxqError], way: object) -> None:
    error = way(made(kind))  # type: ignore[operator]
    assert type(error) is kind and str(error) == str(made(kind))
    assert (error.where, error.expected, error.found, error.remedy) == ("conv1", "a tensor", "None", "pass one")


def test_nothing_can_be_left_out() -> None:
    with pytest.raises(TypeError):
        FxqError("conv1", expected="a tensor", found="None")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        FxqError("conv1", "a tensor", "None", "pass one")  # type: ignore[misc]
