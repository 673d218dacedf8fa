"""forward's parameters × example inputs → placeholders of a graph, and what forward is called with while it is traced."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from inspect import Parameter
from typing import Any

import torch
from torch import nn

from fxq.errors import CaptureError, ConfigError
from fxq.qconfig_mapping.presence import nearest

_NONE_GIVEN = Parameter.empty
# types of arguments that forward branches on
_SWITCHES = (type(None), bool, str)
_LITERALS = (*_SWITCHES, int, float, torch.dtype, torch.device)
_BY_PLACE = {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL}
_VARIABLE = {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}


@dataclass(frozen=True)
class Inputs:
    """What a module is called with.

    Attributes:
        args, kwargs: positional and keyword arguments.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def split_inputs(example_inputs: Any) -> Inputs:
    """What a user passes as inputs → positional and keyword arguments of forward."""
    if isinstance(example_inputs, Mapping):
        return Inputs((), example_inputs)
    if isinstance(example_inputs, list | tuple):
        return Inputs(tuple(example_inputs))
    if isinstance(example_inputs, torch.Tensor):
        return Inputs((example_inputs,))
    raise CaptureError(
        "example_inputs",
        expected="a tuple of positional inputs, one tensor, or a dict of keyword inputs",
        found=type(example_inputs).__name__,
        remedy="pass example_inputs=(torch.randn(1, 3, 224, 224),), with the shapes that the model takes",
    )


@dataclass(frozen=True)
class Argument:
    """One placeholder.

    Attributes:
        name: by which callers know it: of a parameter, or one of those that *args and **kwargs stand for.
        kind: of the parameter; KEYWORD_ONLY also for one that could be passed by place, and is not.
        example: its value while tracing; `inspect.Parameter.empty` where none is known.
        default: what it is where a caller leaves it out; `inspect.Parameter.empty`: it cannot be left out.
        is_fixed: forward sees the example itself, and not a stand-in.
    """

    name: str
    kind: Any
    example: Any
    default: Any
    is_fixed: bool

    @property
    def is_checked(self) -> bool:
        """Another value at run time is an error. What is no literal cannot be compared."""
        return self.is_fixed and is_literal(self.example)


def arguments_of(model: nn.Module, inputs: Inputs, fixed: Mapping[str, Any]) -> tuple[Argument, ...]:
    """The arguments of a model's forward, in order.

    Args:
        inputs: examples.
        fixed: parameter → the one value that the model is traced for.

    Raises:
        CaptureError: the examples do not fit forward's parameters.
        ConfigError: forward has no parameter of a name in `fixed`.
    """
    signature = inspect.signature(model.forward)
    unknown = next((name for name in fixed if name not in signature.parameters), None)
    if unknown is not None:
        raise _no_such_parameter(unknown, list(signature.parameters))
    try:
        given = signature.bind_partial(*inputs.args, **inputs.kwargs).arguments
    except TypeError as error:
        raise _misfit(signature, inputs, error) from error
    found = [each for parameter in signature.parameters.values() for each in _arguments(parameter, given, fixed)]
    by_place = list(signature.parameters)[: len(inputs.args)]
    # decorators that take (self, *args, **kwargs) can tell the difference
    passed = (each if each.name in by_place else _by_keyword(each) for each in _with_possible_defaults(found))
    return tuple(passed)


def _by_keyword(argument: Argument) -> Argument:
    return replace(argument, kind=Parameter.KEYWORD_ONLY) if argument.kind is Parameter.POSITIONAL_OR_KEYWORD else argument


def _arguments(parameter: Parameter, given: Mapping[str, Any], fixed: Mapping[str, Any]) -> Iterator[Argument]:
    name, kind = parameter.name, parameter.kind
    if kind is Parameter.VAR_POSITIONAL:
        for number, value in enumerate(given.get(name, ())):
            yield Argument(f"{name}_{number}", kind, value, _NONE_GIVEN, isinstance(value, _SWITCHES))
    elif kind is Parameter.VAR_KEYWORD:
        for key, value in given.get(name, {}).items():
            yield Argument(key, kind, value, value if is_literal(value) else None, isinstance(value, _SWITCHES))
    elif name in fixed:
        yield Argument(name, kind, fixed[name], _literal(fixed[name], parameter.default), True)
    else:
        value = given.get(name, parameter.default)
        default = None if kind is Parameter.KEYWORD_ONLY and parameter.default is _NONE_GIVEN else parameter.default
        yield Argument(name, kind, value, default, isinstance(value, _SWITCHES))


def _with_possible_defaults(arguments: list[Argument]) -> Iterator[Argument]:
    """In Python what has no default stands in front of what has: a fixed one in front of others has to be given."""
    required = max((place for place, each in enumerate(arguments) if each.default is _NONE_GIVEN), default=-1)
    for place, each in enumerate(arguments):
        default = _NONE_GIVEN if place < required else each.default
        yield Argument(each.name, each.kind, each.example, default, each.is_fixed)


def _literal(value: Any, otherwise: Any) -> Any:
    return value if is_literal(value) else otherwise


def is_literal(value: Any) -> bool:
    """Whether it can stand in a graph."""
    return isinstance(value, _LITERALS) or (isinstance(value, list | tuple) and all(map(is_literal, value)))


def called_with(arguments: tuple[Argument, ...], value: Callable[[Argument], Any]) -> Inputs:
    """What forward is called with: `value` of each argument, in the places of its parameters."""
    values = [(each, value(each)) for each in arguments]
    args = tuple(given for each, given in values if each.kind in _BY_PLACE)
    return Inputs(args, {each.name: given for each, given in values if each.kind not in _BY_PLACE})


# --- containers ------------------------------------------------------------------------------------------------------------


def keys_of(value: Any) -> int | list[Any] | None:
    """How many items a list or tuple has, the keys of a dict; None for what is no plain container, or has no tensor in it."""
    if type(value) in (dict, OrderedDict):
        return list(value)
    return len(value) if type(value) is list or isinstance(value, tuple) else None


def rebuilt(value: Any, items: list[Any]) -> Any:
    """A container like `value`, with these items in its place."""
    if isinstance(value, dict):
        return type(value)(zip(value, items, strict=True))
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


# --- errors ----------------------------------------------------------------------------------------------------------------


def _no_such_parameter(name: str, present: list[str]) -> ConfigError:
    near = nearest(name, present) or present
    return ConfigError(
        f"concrete_args {name!r}",
        expected="a parameter of the model's forward",
        found=f"none of the name {name!r}",
        remedy=f"write one of {', '.join(map(repr, near))}" if near else "leave it out: forward has none",
    )


def _misfit(signature: inspect.Signature, inputs: Inputs, error: TypeError) -> CaptureError:
    names = [name for name, parameter in signature.parameters.items() if parameter.kind not in _VARIABLE]
    unknown = sorted(set(inputs.kwargs) - set(names[len(inputs.args) :]))
    found = f"{len(inputs.args)} positional" + (f" and unknown {', '.join(unknown)}" if unknown else "")
    return CaptureError(
        "example_inputs",
        expected=f"inputs for {', '.join(names)}",
        found=found,
        remedy="pass a tuple in the order of forward's parameters, or a dict by their names; of an (input, label) pair only the input",
    )
