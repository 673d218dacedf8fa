"""Shapes of all values of a graph, and which of their numbers depend on the size of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils._pytree import tree_map_only

from fxq.errors import ExportError, FxqError
from fxq.export.site import FIXED, Shape
from fxq.export.translate import TensorShape
from fxq.graph.annotation import tensor_type
from fxq.graph.infer import infer_types, placeholder_values
from fxq.graph.module import FxqModule


@dataclass(frozen=True)
class Shapes:
    """What translate needs to know: see there."""

    inputs: Mapping[Node, Any]
    nodes: Mapping[Node, Shape]


def find_shapes(module: FxqModule, args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic_batch: bool) -> Shapes:
    """Runs the graph; once more with a larger batch, if that is to be free: a number that changes depends on it.

    Raises:
        CaptureError: the graph does not run on the inputs.
        ExportError: it does not run on a larger batch.
    """
    placeholders = module.graph.find_nodes(op="placeholder")
    large = _run_larger(module, args, kwargs) if dynamic_batch else None
    exact = _run(module, args, kwargs)
    values = dict(zip(placeholders, placeholder_values(module, args, kwargs), strict=True))
    shapes = {node: _compared(shape, shape if large is None else large[node]) for node, shape in exact.items()}
    return Shapes({node: tree_map_only(Tensor, lambda x: _input_shape(x, dynamic_batch), value) for node, value in values.items()}, shapes)


def _run(module: FxqModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[Node, tuple[int, ...]]:
    infer_types(module, args, kwargs)
    types = {node: tensor_type(node) for node in module.graph.nodes}
    return {node: found.shape for node, found in types.items() if found is not None}


def _run_larger(module: FxqModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[Node, tuple[int, ...]]:
    try:
        return _run(module, tree_map_only(Tensor, _enlarged, args), tree_map_only(Tensor, _enlarged, kwargs))
    except FxqError as error:
        raise ExportError(error.where, expected="a model that runs on batches of any size", found=error.found, remedy=FIXED) from error


def _enlarged(x: Tensor) -> Tensor:
    """One more of what dimension 0 counts."""
    return torch.cat([x, x[:1]]) if x.ndim else x


def _compared(exact: tuple[int, ...], large: tuple[int, ...]) -> Shape:
    if len(exact) != len(large):
        raise ExportError(
            "the batch", expected="values with as many dimensions for every size of the batch", found=f"{exact} and {large}", remedy=FIXED
        )
    return tuple(size if size == other else None for size, other in zip(exact, large, strict=True))


def _input_shape(x: Tensor, dynamic_batch: bool) -> TensorShape:
    shape: Shape = (None, *x.shape[1:]) if dynamic_batch and x.ndim else tuple(x.shape)
    return TensorShape(shape, x.dtype)
