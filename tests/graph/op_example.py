"""What a user writes, and the graph that must come of it.

The graph is text: the right sides of its lines, without types. `m` is the module of a module example, `a`, `b`, ... are
constants of the model, `x` and `y` are inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Key = tuple[str, Any]  # op name, spelling target

D1, D2, D3 = (2, 3, 8), (2, 3, 8, 8), (2, 3, 4, 4, 4)


@dataclass(frozen=True)
class Example:
    """What a user writes.

    Attributes:
        make: makes the module, or returns the function of input, constants and second input, in this order.
        graph: lines after the inputs, and before the output.
        shape: of the input `x`, and of `y` where there is one.
        constants: shapes of parameters `a`, `b`, ... of the model; values are positive.
        second: there is an input `y`.
    """

    make: Callable[[], Callable[..., Any]]
    graph: tuple[str, ...]
    shape: tuple[int, ...] = D2
    constants: tuple[tuple[int, ...], ...] = ()
    second: bool = False

    def model(self) -> nn.Module:
        """The example as a model in eval mode."""
        torch.manual_seed(0)
        made = self.make()
        inner = made if isinstance(made, nn.Module) else _Applied(made, self.constants)
        model: nn.Module = (_OfTwo if self.second else _OfOne)(inner)
        return model.eval()

    def inputs(self, seed: int = 1) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(self.shape, generator=generator) for _ in range(2 if self.second else 1))


class _Applied(nn.Module):
    def __init__(self, function: Callable[..., Any], shapes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.function = function
        for name, shape in zip("abcde", shapes, strict=False):
            self.register_parameter(name, nn.Parameter(torch.rand(shape) + 0.5))

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        return self.function(x, *self._parameters.values(), *others)


class _OfOne(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.m = inner

    def forward(self, x: Tensor) -> Any:
        return self.m(x)


class _OfTwo(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.m = inner

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.m(x, y)


def made(kind: type[nn.Module], *args: Any, graph: str, shape: tuple[int, ...] = D2, second: bool = False, **kwargs: Any) -> Example:
    """A module of torch.nn, with its running statistics away from 0 and 1."""

    def make() -> nn.Module:
        module = kind(*args, **kwargs)
        for name, buffer in module.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape) + (0.5 if "var" in name else -0.5))
        return module

    return Example(make, (graph,), shape, second=second)


def called(
    function: Callable[..., Any],
    *graph: str,
    shape: tuple[int, ...] = D2,
    constants: tuple[tuple[int, ...], ...] = (),
    second: bool = False,
) -> Example:
    """A function of x."""
    return Example(lambda: function, graph, shape, constants, second)


def fresh(function: Callable[[Tensor], Any], *graph: str, shape: tuple[int, ...] = D2) -> Example:
    """A function that writes into its input, called on a value that the model has made itself."""
    return Example(lambda: lambda x: function(x.sin()), ("method sin(x)", *graph), shape)


Examples = Mapping[Key, tuple[Example, ...]]
