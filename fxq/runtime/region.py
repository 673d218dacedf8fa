"""Region: a part of the lowered model as plain data, and its meaning: the integer ops, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Value:
    """Stands for an earlier value inside the arguments of a Step."""

    index: int


@dataclass(frozen=True, eq=False)
class Step:
    """value = function(*args, **kwargs)

    Attributes:
        name: of the node.
        function: an IntegerOp, or a function of tensors and sizes: quantize, dequantize, cat, reshape, size, ...
        args, kwargs: constants and Values, in nested tuples, lists, dicts and slices.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @cached_property
    def reads(self) -> tuple[int, ...]:
        """Indices of the values in the arguments, in their order, each once."""
        return tuple(dict.fromkeys(value.index for value in _values((self.args, self.kwargs))))

    def run(self, values: Mapping[int, Any]) -> Any:
        """The function's result on these values."""
        return self.function(*fill_in(self.args, values), **fill_in(self.kwargs, values))


@dataclass(frozen=True, eq=False)
class Region:
    """Steps in the order in which they run. Values 0..inputs-1 are the region's inputs, step k makes value inputs + k.

    Attributes:
        name: for listings and messages.
        inputs: how many tensors it takes.
        outputs: values that the rest of the model reads.
    """

    name: str
    inputs: int
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    @cached_property
    def last_reads(self) -> Mapping[int, int]:
        """Value → the last step that reads it; outputs have none."""
        last = {index: number for number, step in enumerate(self.steps) for index in step.reads}
        return {index: number for index, number in last.items() if index not in self.outputs}

    def run(self, inputs: Sequence[Tensor]) -> tuple[Any, ...]:
        """The integer executor: each step in turn; a value goes when its last reader has run."""
        values: dict[int, Any] = dict(enumerate(inputs))
        for number, step in enumerate(self.steps):
            values[self.inputs + number] = step.run(values)
            for index in step.reads:
                if self.last_reads.get(index) == number:
                    del values[index]
        return tuple(values[index] for index in self.outputs)

    def trace(self, inputs: Sequence[Tensor]) -> Mapping[int, Any]:
        """Every value of one run of the integer executor."""
        values: dict[int, Any] = dict(enumerate(inputs))
        for number, step in enumerate(self.steps):
            values[self.inputs + number] = step.run(values)
        return values


def fill_in(argument: Any, values: Mapping[int, Any]) -> Any:
    """The argument with each Value replaced by what it stands for."""
    if isinstance(argument, Value):
        return values[argument.index]
    if isinstance(argument, (tuple, list)):
        return type(argument)(fill_in(item, values) for item in argument)
    if isinstance(argument, Mapping):
        return {key: fill_in(item, values) for key, item in argument.items()}
    if isinstance(argument, slice):
        return slice(*(fill_in(part, values) for part in (argument.start, argument.stop, argument.step)))
    return argument


def _values(argument: Any) -> Iterator[Value]:
    if isinstance(argument, Value):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for item in argument:
            yield from _values(item)
    elif isinstance(argument, Mapping):
        yield from _values(tuple(argument.values()))
    elif isinstance(argument, slice):
        yield from _values((argument.start, argument.stop, argument.step))
