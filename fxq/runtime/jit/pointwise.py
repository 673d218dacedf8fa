"""How ops on several tensors are planned that go element by element: which operands are repeated, and in which order all are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fxq.graph import functional, movement
from fxq.runtime.jit.kernel import Layout, Planned
from fxq.runtime.jit.kernels.choose import Choice, Choose
from fxq.runtime.jit.kernels.elementwise import plan_binary
from fxq.runtime.jit.planner import Site, Unplannable
from fxq.runtime.jit.views import View
from fxq.runtime.region import Value

CHOICES: Mapping[Callable[..., Any], Choice] = {functional.maximum: "umax", functional.minimum: "umin", movement.where: "select"}


@dataclass(frozen=True)
class Together:
    """Tensors of one shape, or with dimensions of length 1, the last dimension of the order being adjacent elements in all."""

    inputs: tuple[View, ...]
    y: View

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """Of the inputs, and of the result behind them."""
        order = self.y.memory_order
        return tuple(view.layout(order) for view in (*self.inputs, self.y))


def plan_binary_step(site: Site) -> None:
    """Sums and products."""
    op: Any = site.step.function
    together = _together(site, site.operands)
    a, b = together.inputs
    site.call(plan_binary(op, together.layouts, site.planner.isa, signed=site.signed), a=a, b=b, y=together.y)


def plan_choice(site: Site) -> None:
    """max, min, where; a number is one byte, which is read for all elements."""
    arguments = dict(zip(("a", "b"), site.step.args, strict=True))
    if "condition" in site.step.kwargs:
        arguments["condition"] = site.step.kwargs["condition"]
    tensors = {name: argument.index for name, argument in arguments.items() if isinstance(argument, Value)}
    together = _together(site, tuple(tensors.values()))
    views, *layouts, y = dict(zip(tensors, together.inputs, strict=True)), *together.layouts
    found = dict(zip(tensors, layouts, strict=True))
    number = Layout(1, (1,) * len(y.size), (0,) * len(y.size), 0)
    kernel = Choose(site.planner.isa, tuple(found.get(name, number) for name in arguments), y, CHOICES[site.step.function])
    numbers = tuple(np.array([value + 128 * site.kind.signed], np.uint8) for name, value in arguments.items() if name not in tensors)
    site.call(Planned(kernel, numbers), **views, y=together.y)


def _together(site: Site, operands: Sequence[int]) -> Together:
    """The operands as the result is, repeated where strides can say it; copies of those that lie otherwise."""
    views, whole = [site.planner.views[operand] for operand in operands], site.kind.shape
    larger = next((view for view in views if view.shape == whole), None)
    if larger is None or not all(_broadcasts(_of_batch(view, whole).shape, whole) for view in views):
        raise Unplannable(f"broadcasts {' with '.join(str(view.shape) for view in views)}")
    y = site.planner.place(site.value, larger.memory_order)
    order = y.memory_order
    spread = [_of_batch(view, whole) for view in views]
    inputs = tuple(_in_order(site, operands[n], order) if view == views[n] else view for n, view in enumerate(spread))
    if any(view.strides[order[-1]] != 1 and view.shape[order[-1]] != 1 for view in inputs):
        raise Unplannable(f"reads {' and '.join(str(view.shape) for view in views)} in orders that do not go together")
    return Together(inputs, y)


def _in_order(site: Site, operand: int, order: tuple[int, ...]) -> View:
    view = site.planner.views[operand]
    return view if 1 in (view.strides[order[-1]], view.shape[order[-1]]) else site.dense(operand, order)


def _of_batch(view: View, whole: tuple[int, ...]) -> View:
    """The same operand for every image, where it has no batch."""
    shape = (1,) * (len(whole) - len(view.shape)) + view.shape
    if view.shape == shape and shape[0] == whole[0]:
        return view
    moved = view.moved(lambda tensor: tensor.expand(whole[0], *shape[1:]))
    assert moved is not None, "expanding copies nothing"
    return moved


def _broadcasts(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Images as they are; other dimensions whole or of length 1."""
    return len(shape) == len(whole) and shape[0] == whole[0] and all(a in (1, b) for a, b in zip(shape, whole, strict=True))
