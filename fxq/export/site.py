"""Site: one node of the reference graph while its ONNX form is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node
from torch.fx.node import map_arg

from fxq.errors import ExportError
from fxq.export.sizes import Size, as_list
from fxq.export.writer import Constant, Writer
from fxq.graph.annotation import origin_of, tensor_type
from fxq.graph.opdef import Operands

# None: it depends on the size of the batch
Shape = tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Scope:
    """What is known of the graph so far.

    Attributes:
        writer: the ONNX graph.
        values: node → the name of its value, or the Constant that it reads; what it is in Python where it is no tensor.
        shapes: of all nodes whose value is one tensor.
    """

    writer: Writer
    values: dict[Node, Any]
    shapes: Mapping[Node, Shape]


@dataclass(frozen=True, eq=False)
class Site:
    """A node, and what its operands are in ONNX.

    Attributes:
        operands: by name, as the graph has them.
    """

    scope: Scope
    node: Node
    operands: Operands

    def __getitem__(self, operand: str) -> Any:
        """An operand with every node in it replaced by its value."""
        return map_arg(self.operands[operand], self.scope.values.__getitem__)

    def tensor(self, operand: str = "input") -> str:
        """The value of an operand that is a tensor, or a number beside one."""
        return self.read(self[operand])

    def read(self, value: Any) -> str:
        """The name of a value, of a tensor of the model or of a number."""
        if isinstance(value, Constant):
            return self.writer.read(value)
        if isinstance(value, Size):
            return self.emit("Cast", value.name, to=_FLOAT)
        return value if isinstance(value, str) else self.writer.number(value, self.dtype if self.dtype.is_floating_point else torch.float32)

    def optional(self, operand: str) -> Constant | None:
        """A tensor of the model, or None."""
        value = self[operand]
        assert value is None or isinstance(value, Constant)
        return value

    @property
    def writer(self) -> Writer:
        return self.scope.writer

    @property
    def dtype(self) -> torch.dtype:
        """Of the node's value."""
        found = tensor_type(self.node)
        assert found is not None
        return found.dtype

    @property
    def shape(self) -> Shape:
        """Of the node's value."""
        return self.scope.shapes[self.node]

    def shape_of(self, operand: str = "input") -> Shape:
        """Of an operand that is a node."""
        return self.scope.shapes[self.operands[operand]]

    def rank(self, operand: str = "input") -> int:
        """The number of dimensions of an operand that is a node."""
        return len(self.shape_of(operand))

    def length(self, axis: int, operand: str = "input") -> int:
        """Of one dimension of an operand. Raises ExportError where it depends on the batch."""
        found = self.shape_of(operand)[axis]
        if found is None:
            raise self.refusal("an op that takes batches of any size", f"one that needs to know the length of dimension {axis}", FIXED)
        return found

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node; returns its value."""
        return self.writer.emit(op_type, inputs, self.node.name, **attributes)

    def reshape(self, x: str, shape: Sequence[int | None]) -> str:
        """The same elements in a shape of which one number may depend on the batch."""
        if sum(size is None for size in shape) > 1:
            raise self.refusal("a shape with one number that depends on the batch", f"shape {shown(shape)}", FIXED)
        return self.emit("Reshape", x, self.writer.sizes([-1 if size is None else size for size in shape]))

    def size_list(self, sizes: Sequence[int | Size]) -> str:
        """Numbers of which some are computed, as one int64 list."""
        return as_list(sizes, self.writer, self.node.name)

    def slice(self, x: str, axis: int, start: int, stop: int, step: int = 1) -> str:
        """x[start:stop:step] along one axis."""
        sizes = self.writer.sizes
        return self.emit("Slice", x, sizes([start]), sizes([stop]), sizes([axis]), sizes([step]))

    def reduce(self, op_type: str, x: str, axes: Sequence[int], keepdims: bool) -> str:
        """ReduceMean and the like over these axes, or over all of them where there are none. Axes became an input in opset 18."""
        if not axes:
            return self.emit(op_type, x, keepdims=int(keepdims))
        if op_type == "ReduceSum" or self.writer.opset >= 18:
            return self.emit(op_type, x, self.writer.sizes(axes), keepdims=int(keepdims))
        return self.emit(op_type, x, axes=list(axes), keepdims=int(keepdims))

    def needs_opset(self, least: int, what: str) -> None:
        """Raises ExportError where the opset asked for has no such operator."""
        if self.writer.opset < least:
            raise self.refusal(f"opset {least} for {what}", f"opset {self.writer.opset}", f"call export_onnx(..., opset={least})")

    def refusal(self, expected: str, found: str, remedy: str) -> ExportError:
        """The error that says that the node has no ONNX form."""
        return ExportError(place_of(self.node), expected=expected, found=found, remedy=remedy)


_FLOAT = 1  # onnx.TensorProto.FLOAT

FIXED = "call export_onnx(..., dynamic_batch=False)"


def place_of(node: Node) -> str:
    """The node in the words of the user's model."""
    origin = origin_of(node)
    if origin is None:
        return f"node {node.name}"
    where = ", ".join(part for part in (origin.module and f"in {origin.module}", origin.source) if part)
    return f"node {node.name}, {origin.object_type}" + (f" ({where})" if where else "")


def shown(shape: Sequence[int | None]) -> str:
    """For messages: [batch, 3, 8]."""
    return f"[{', '.join('batch' if size is None else str(size) for size in shape)}]"
