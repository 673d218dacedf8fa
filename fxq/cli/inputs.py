"""Inputs to run a saved model on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Node

from fxq.cli.python_objects import find_batches
from fxq.errors import ConfigError, DataError
from fxq.graph.annotation import TensorType, tensor_type
from fxq.graph.module import FxqModule
from fxq.passes import split_inputs
from fxq.passes.arguments import Inputs


def example_inputs(model: FxqModule, batches: str | None, length: int | None = None) -> Inputs:
    """The first of the user's batches; random values of the shapes that the model was prepared with, where none are named.

    Args:
        batches: MODULE:NAME.
        length: of dimension 0 of random inputs; None: as in the model.

    Raises:
        ConfigError, DataError: there is no batch, or random values would not do.
    """
    if batches is None:
        return Inputs(tuple(_random_inputs(model, length)))
    first = next(iter(find_batches(batches)), None)
    if first is None:
        raise DataError(batches, expected="at least one batch", found="none", remedy="return a list or a DataLoader that is not empty")
    return split_inputs(first)


def _random_inputs(model: FxqModule, length: int | None) -> list[Tensor]:
    """For every input without a default."""
    needed = [node for node in model.graph.find_nodes(op="placeholder") if not node.args]
    return [_random(node, length) for node in needed]


def _random(node: Node, length: int | None) -> Tensor:
    found = tensor_type(node)
    if found is None or found.dtype.is_complex:
        raise ConfigError(
            f"input {node.target}", expected="a tensor of numbers", found="something else", remedy="name inputs with --batches"
        )
    shape = found.shape if length is None or not found.shape else (length, *found.shape[1:])
    return _values(TensorType(shape, found.dtype))


def _values(wanted: TensorType) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if wanted.dtype.is_floating_point:
        return torch.randn(wanted.shape, generator=generator).to(wanted.dtype)
    return torch.zeros(wanted.shape, dtype=wanted.dtype)  # an index that every table has
