"""MODULE:NAME → the user's model or batches."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from operator import length_hint
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxq.errors import ConfigError, FxqError

_PACKAGE = str(Path(__file__).parents[1])

HOW_TO_NAME = """\
Models and batches are named by the Python that makes them, with the current
directory on the path:

  zoo:build_model   a function without arguments that returns an nn.Module,
                    or the module itself
  zoo:batches       an iterable of the inputs that the model takes, or a
                    function without arguments that returns one

A batch is a tensor, a tuple of positional inputs or a dict of keyword
inputs, without labels.
"""


@dataclass(frozen=True, eq=False)
class Batches:
    """The user's batches; an error inside them is one of the user's."""

    source: Iterable[Any]
    where: str

    def __iter__(self) -> Iterator[Any]:
        with _user_code(self.where, "batches that can be read to the end"):
            yield from self.source

    def __length_hint__(self) -> int:
        return length_hint(self.source)


def look_here() -> None:
    """Puts the current directory on the path, once."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def build_model(target: str) -> nn.Module:
    """The model of that name. Raises ConfigError where there is none."""
    found = _find(target)
    if not isinstance(found, nn.Module):
        found = _called(found, target, "a function without arguments that returns an nn.Module")
    if isinstance(found, nn.Module):
        return found
    raise ConfigError(
        target, expected="an nn.Module", found=f"{type(found).__name__} {found!r}"[:200], remedy="return the model from this function"
    )


def find_batches(target: str) -> Batches:
    """The batches of that name. Raises ConfigError where there are none."""
    expected = "an iterable of batches, or a function without arguments that returns one"
    found = _find(target)
    if not isinstance(found, Iterable):
        found = _called(found, target, expected)
    if isinstance(found, Iterable) and not isinstance(found, torch.Tensor | str | bytes):
        return Batches(found, target)
    remedy = "put it into a list: a list of one tensor is one batch" if isinstance(found, torch.Tensor) else "return a list or a DataLoader"
    raise ConfigError(target, expected=expected, found=type(found).__name__, remedy=remedy)


def find_function(target: str) -> Callable[..., Any]:
    """A function of that name, whose errors are the user's. Raises ConfigError where it is none."""
    found = _find(target)
    if not callable(found):
        raise ConfigError(target, expected="a function", found=type(found).__name__, remedy="name a function")

    def called(*args: Any) -> Any:
        with _user_code(target, "a function that returns"):
            return found(*args)

    return called


def _called(found: Any, target: str, expected: str) -> Any:
    if not callable(found):
        raise ConfigError(target, expected=expected, found=type(found).__name__, remedy="name a function")
    with _user_code(target, expected):
        return found()


def _find(target: str) -> Any:
    """'pkg.module:name' → the object."""
    look_here()
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise ConfigError(target, expected="MODULE:NAME", found=repr(target), remedy="write, for example, zoo:build_model for zoo.py")
    found: Any = _import(module_name, target)
    for part in name.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, [each for each in dir(found) if not each.startswith("_")], n=1)
            remedy = f"write {near[0]!r}" if near else "check the spelling"
            raise ConfigError(target, expected=f"{part!r} in {module_name}", found="no such name", remedy=remedy)
        found = getattr(found, part)
    return found


def _import(module_name: str, target: str) -> Any:
    try:
        with _user_code(target, f"a module {module_name} that can be imported"):
            return importlib.import_module(module_name)
    except FxqError as error:
        missing = error.__cause__.name if isinstance(error.__cause__, ModuleNotFoundError) else None
        if missing is None or not f"{module_name}.".startswith(f"{missing}."):
            raise
        raise ConfigError(
            target,
            expected=f"a module {module_name} in {os.getcwd()} or among the installed packages",
            found=f"no module named {missing!r}",
            remedy="run fxq in the folder that holds it, and write it with dots and without .py",
        ) from error.__cause__


@contextmanager
def _user_code(where: str, expected: str) -> Iterator[None]:
    """What the user's code raises → an error that says so, with the line it comes from."""
    try:
        yield
    except FxqError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {error}{_place(error)}"
        raise ConfigError(where, expected=expected, found=found, remedy="correct it; FXQ_DEBUG=1 shows the whole traceback") from error


def _place(error: Exception) -> str:
    """The innermost line of the user's that the error comes from; "" where it is none of theirs."""
    if isinstance(error, SyntaxError):
        return ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith((_PACKAGE, "<"))]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
