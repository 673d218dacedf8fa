"""One direction of one recurrent layer as plain data, and what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.runtime.dynamic.cells import Cell, States
from fxq.runtime.dynamic.linear import row_product
from fxq.runtime.dynamic.product import RowProduct
from fxq.runtime.weight_only.product import GroupedProduct, grouped_product

Product = RowProduct | GroupedProduct
Multiply = Callable[[Tensor, Product], Tensor]


def product_of_rows(rows: Tensor, product: Product) -> Tensor:
    """f32 [rows, I] → f32 [rows, O], by torch's ops."""
    return grouped_product(rows, product) if isinstance(product, GroupedProduct) else row_product(rows, product)


@dataclass(frozen=True, eq=False)
class Layer:
    """One direction of one layer.

    Attributes:
        cell: what a step does.
        input, hidden: products for the gates.
        projection: of the new hidden state; None where there is none.
    """

    cell: Cell
    input: Product
    hidden: Product
    projection: Product | None


@dataclass(frozen=True)
class Steps:
    """The rows of each step, in the order of time.

    Attributes:
        sizes: rows of each step; a sequence that has ended has none.
        backwards: the last step goes first.
    """

    sizes: tuple[int, ...]
    backwards: bool

    def ranges(self) -> Iterator[slice]:
        """Rows of one step after the other, in the order in which they run."""
        starts = [0]
        for size in self.sizes:
            starts.append(starts[-1] + size)
        order = range(len(self.sizes))
        yield from (slice(starts[step], starts[step + 1]) for step in (reversed(order) if self.backwards else order))


@torch.no_grad()
def run_steps(layer: Layer, rows: Tensor, steps: Steps, states: States, multiply: Multiply = product_of_rows) -> tuple[Tensor, States]:
    """What a layer means: all steps of one direction.

    Args:
        rows: f32 [rows of all steps, features].
        states: f32 [sequences, size] each.
        multiply: computes products of rows; by default torch's ops.

    Returns:
        the outputs [rows, size], and the states behind the last step of each sequence.
    """
    states = tuple(state.clone() for state in states)
    outputs = rows.new_empty(len(rows), states[0].shape[1])
    gates = multiply(rows, layer.input)
    for part in steps.ranges():
        live = tuple(state[: part.stop - part.start] for state in states)
        new = layer.cell.step(gates[part], multiply(live[0], layer.hidden), live)
        if layer.projection is not None:
            new = (multiply(new[0], layer.projection), *new[1:])
        for state, value in zip(live, new, strict=True):
            state.copy_(value)
        outputs[part] = live[0]
    return outputs, states
