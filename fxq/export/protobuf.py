"""The ONNX graph as a file, in the format's own protobuf messages."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import torch

from fxq.errors import DataError, ExportError
from fxq.export.translate import TensorShape, Translated

_MOST_BYTES = 2**31 - 1  # of a protobuf message
_BATCH = "batch"


def onnx_package() -> Any:
    """The module `onnx`. Raises ExportError where it is not installed."""
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        remedy = "install it: pip install 'fxq[onnx]'"
        raise ExportError("export_onnx", expected="the package onnx", found=str(error), remedy=remedy) from error


def serialize(translated: Translated, outputs: dict[str, TensorShape | None], version: str) -> bytes:
    """The checked model.

    Args:
        outputs: names of values that are outputs → their shapes, where they are known.
        version: of fxq, which the file names as its producer.

    Raises:
        ExportError: it is larger than the format allows.
    """
    onnx, writer = onnx_package(), translated.writer
    build = onnx.helper
    nodes = [build.make_node(node.op_type, node.inputs, node.outputs, name=node.name, **node.attributes) for node in writer.nodes]
    tensors = [onnx.numpy_helper.from_array(values, name) for name, values in writer.tensors.items()]
    given = [_value_proto(onnx, name, shape) for name, shape in translated.inputs.items()]
    results = [_value_proto(onnx, name, shape) for name, shape in outputs.items()]
    imports = [build.make_opsetid("", writer.opset)]
    model = build.make_model(
        build.make_graph(nodes, "fxq", given, results, initializer=tensors),
        opset_imports=imports, ir_version=build.find_min_ir_version_for(imports), producer_name="fxq", producer_version=version,
    )  # fmt: skip
    size = model.ByteSize()
    if size > _MOST_BYTES:
        raise ExportError(
            "export_onnx", expected=f"at most {_MOST_BYTES:,} bytes", found=f"{size:,} bytes", remedy="export parts of the model"
        )
    onnx.checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString()
    return serialized


def _value_proto(onnx: Any, name: str, found: TensorShape | None) -> Any:
    """An input or output. Without a shape: int64 sizes, which are all that has none."""
    if found is None:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None)
    dtype = onnx.helper.np_dtype_to_tensor_dtype(torch.empty(0, dtype=found.dtype).numpy().dtype)
    return onnx.helper.make_tensor_value_info(name, dtype, [_BATCH if size is None else size for size in found.shape])


def require_writable(path: Path) -> None:
    """Before the work, rather than after it. Raises DataError."""
    if path.is_dir():
        raise DataError(str(path), expected="the name of a file", found="a folder", remedy=f"write {path / 'model.onnx'}, for example")
    if not path.absolute().parent.is_dir():
        raise DataError(str(path), expected="a file in an existing folder", found=f"no folder {path.parent}", remedy="make the folder")


def write_whole(path: Path, content: bytes) -> None:
    """Into a file beside it, which then takes its place: whatever happens, there is a whole file or none. Raises DataError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise DataError(str(path), expected="a file that can be written", found=str(error), remedy="choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)
