"""export_onnx: a converted model → a file that ONNX Runtime and others run."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.fx import Node
from torch.utils._pytree import tree_map_only

from fxq.errors import ExportError, StageError
from fxq.export.protobuf import onnx_package, require_writable, serialize, write_whole
from fxq.export.shapes import find_shapes
from fxq.export.sizes import Size
from fxq.export.translate import TensorShape, Translated, translate
from fxq.graph.annotation import TensorType, quant_of, set_type, type_of
from fxq.graph.constants import remove_unread
from fxq.graph.module import FxqModule
from fxq.graph.reasons import Reason, Why
from fxq.graph.stages import Stage
from fxq.lowering.lift import lift
from fxq.passes.arguments import Inputs, split_inputs
from fxq.runtime.interface import QTensorEntry, QTensorExit
from fxq.runtime.qtensor import QTensor

OPSETS = range(17, 22)


@dataclass(frozen=True)
class OnnxExport:
    """What was written.

    Attributes:
        path: of the file.
        opset: version of ONNX's operators.
        inputs, outputs: names, in order.
        quantized: values that are stored as 8-bit integers between ops.
        bytes: size of the file.
        stays_float: why what computes is float in the file as in the model.
    """

    path: Path
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    quantized: int
    bytes: int
    stays_float: tuple[Reason, ...]


def export_onnx(
    model: FxqModule, path: str | os.PathLike[str], example_inputs: Any = None, *, opset: int = 17, dynamic_batch: bool = True
) -> OnnxExport:
    """Converted model → ONNX: float operators between QuantizeLinear and DequantizeLinear, weights in int8, biases in int32.

    The file means what the int8 model means. Runtimes fuse the operators into integer kernels and round in their own ways, so that
    values may be one step of their scale apart.

    Args:
        model: from convert_fx, quantize or convert_to_reference_fx; it is not changed.
        path: of the file; it is there as a whole, or not at all.
        example_inputs: as for prepare_fx, with the shapes to export for; those that the model was prepared with where it is None.
        opset: 17 to 21.
        dynamic_batch: dimension 0 of all inputs is of any length. Everything else is fixed.

    Raises:
        ExportError: a node has no ONNX form, the package onnx is missing, or the batch has to be fixed. Nothing is written then.
        StageError: the model is not converted.
        DataError: the file cannot be written.
    """
    if opset not in OPSETS:
        raise ExportError("opset", expected=f"{OPSETS[0]} to {OPSETS[-1]}", found=str(opset), remedy="leave it out for 17")
    target = Path(path)
    require_writable(target)
    onnx_package()
    reference = _reference(model)
    inputs = _examples(reference, example_inputs)
    _strip_interface(reference)
    shapes = find_shapes(reference, inputs.args, inputs.kwargs, dynamic_batch)
    translated = translate(reference, shapes.inputs, shapes.nodes, opset)
    outputs = _name_outputs(translated)
    content = serialize(translated, outputs, importlib.import_module("fxq").__version__)
    write_whole(target, content)
    return OnnxExport(
        path=target,
        opset=opset,
        inputs=tuple(translated.inputs),
        outputs=tuple(outputs),
        quantized=sum(node.op_type == "QuantizeLinear" for node in translated.writer.nodes),
        bytes=len(content),
        stays_float=tuple(_reasons(model)),
    )


def _reference(model: FxqModule) -> FxqModule:
    stage = model.stage if isinstance(model, FxqModule) else None
    if stage is Stage.LOWERED:
        return lift(model)
    if stage is Stage.REFERENCE:
        return copy.deepcopy(model)
    raise StageError(
        "export_onnx",
        expected="a converted model",
        found=f"a {type(model).__name__}" if stage is None else f"a model at stage {stage.name}",
        remedy="pass the model that convert_fx returned",
    )


def _reasons(model: FxqModule) -> Iterator[Reason]:
    for node in model.graph.nodes:
        quant = quant_of(node)
        if quant is not None and quant.reason is not None and quant.reason.why is not Why.NO_ELEMENTS:
            yield quant.reason


# --- inputs and results ----------------------------------------------------------------------------------------------------


def _examples(reference: FxqModule, example_inputs: Any) -> Inputs:
    """What forward is called with, plain integers in the place of QTensors."""
    if example_inputs is None:
        return Inputs(tuple(_zeros(node) for node in reference.graph.find_nodes(op="placeholder")))
    given = split_inputs(example_inputs)
    args, kwargs = tree_map_only(QTensor, QTensor.int_repr, (given.args, dict(given.kwargs)))
    return Inputs(args, kwargs)


def _zeros(placeholder: Node) -> Any:
    found = type_of(placeholder)
    if found is None:
        raise ExportError(
            f"input {placeholder.target}", expected="example_inputs", found="none, and it is no tensor", remedy="pass example_inputs"
        )
    return tree_map_only(TensorType, lambda each: torch.zeros(each.shape, dtype=each.dtype), found)


def _strip_interface(reference: FxqModule) -> None:
    """A QTensor is the same integers outside of the model as inside."""
    for node in list(reference.graph.find_nodes(op="call_module")):
        if isinstance(reference.get_submodule(str(node.target)), QTensorEntry | QTensorExit):
            (integers,) = node.all_input_nodes
            set_type(integers, type_of(node))
            node.replace_all_uses_with(integers)
            reference.graph.erase_node(node)
    remove_unread(reference)
    reference.recompile()


def _name_outputs(translated: Translated) -> dict[str, TensorShape | None]:
    """Gives every tensor of the result a name of its own: "output", or what it is called in a dict or by its place."""
    writer, found = translated.writer, {}
    for name, value in _leaves("output", translated.result):
        source = writer.number(value, torch.int64) if isinstance(value, int) else value.name if isinstance(value, Size) else value
        output = writer.name(name)
        writer.rename(source, output)
        found[output] = translated.types.get(source)
    return found


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(name, leaf) of nested results; a key of a dict or a field is a name of its own."""
    if dataclasses.is_dataclass(value) and not isinstance(value, Size):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(str(key), item)
    elif isinstance(value, tuple | list):
        for number, item in enumerate(value):
            yield from _leaves(f"{name}_{number}", item)
    elif value is not None:
        yield name, value
