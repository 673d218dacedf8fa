"""The ONNX graph while it is written: nodes, tensors and their names, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.graph.qtypes import QParams

Array = NDArray[Any]


@dataclass(frozen=True)
class OnnxNode:
    """One call of an ONNX operator. An optional input that is left out is ""."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor of the model, as integers where it is quantized.

    Attributes:
        path: in the model.
        values: as stored.
        qparams: per tensor or per channel; None for what is not quantized.
    """

    path: str
    values: Tensor
    qparams: QParams | None = None

    @cached_property
    def transposed(self) -> Constant:
        """The two dimensions of a matrix exchanged, and the axis of its scales with them."""
        qparams = self.qparams
        if qparams is not None and qparams.spec.axis is not None:
            qparams = _along(1 - qparams.spec.axis, qparams)
        return Constant(f"{self.path}.T", self.values.t(), qparams)


def _along(axis: int, qparams: QParams) -> QParams:
    return replace(qparams, spec=replace(qparams.spec, axis=axis))


@dataclass(eq=False)
class Writer:
    """Collects a graph. Every method that adds something returns the name of the value that it makes.

    Attributes:
        opset: version of ONNX's operators.
        nodes: in the order in which they run.
        tensors: name → initializer.
    """

    opset: int
    nodes: list[OnnxNode] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)
    _taken: Counter[str] = field(default_factory=Counter)
    _numbers: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    _read: dict[str, str] = field(default_factory=dict)

    def name(self, wanted: str) -> str:
        """The name, or the first free one of name_1, name_2, ..."""
        while True:
            self._taken[wanted] += 1
            count = self._taken[wanted]
            if count == 1:
                return wanted
            if not self._taken[f"{wanted}_{count - 1}"]:
                return self.name(f"{wanted}_{count - 1}")

    def emit(self, op_type: str, inputs: Sequence[str], owner: str, **attributes: Any) -> str:
        """Adds a node of the given owner, a node of the model; returns its value."""
        name = self.name(f"{owner}/{op_type}")
        self.nodes.append(OnnxNode(op_type, name, tuple(inputs), (name,), attributes))
        return name

    def emit_several(self, op_type: str, inputs: Sequence[str], owner: str, results: Sequence[str]) -> tuple[str, ...]:
        """Adds a node that makes several values, called by what each is; returns these."""
        name = self.name(f"{owner}/{op_type}")
        outputs = tuple(self.name(f"{name}_{result}") for result in results)
        self.nodes.append(OnnxNode(op_type, name, tuple(inputs), outputs, {}))
        return outputs

    def rename(self, value: str, name: str) -> None:
        """Makes the value known under another name, too."""
        self.nodes.append(OnnxNode("Identity", name, (value,), (name,), {}))

    def number(self, value: Any, dtype: torch.dtype = torch.float32) -> str:
        """A small constant: a number or a list of them; equal ones are stored once."""
        array = torch.as_tensor(value, dtype=dtype).numpy()
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._numbers:
            self._numbers[key] = self.tensor("number" if array.ndim == 0 else "numbers", array)
        return self._numbers[key]

    def sizes(self, values: Sequence[int]) -> str:
        """A list of int64, as axes and shapes are."""
        return self.number(list(values), torch.int64)

    def tensor(self, name: str, values: Array) -> str:
        """An initializer under the first free name."""
        name = self.name(name)
        self.tensors[name] = np.array(values, order="C")
        return name

    def read(self, constant: Constant) -> str:
        """The real values of a tensor of the model: its initializer, with DequantizeLinear behind where it is quantized."""
        if constant.path not in self._read:
            stored = self.tensor(constant.path, constant.values.detach().cpu().numpy())
            self._read[constant.path] = stored if constant.qparams is None else self.dequantize(stored, constant.qparams, constant.path)
        return self._read[constant.path]

    def dequantize(self, integers: str, qparams: QParams, owner: str) -> str:
        """scale · (q − zero_point)"""
        return self.emit("DequantizeLinear", (integers, *self._qparams(qparams, owner)), owner, **_axis(qparams))

    def quantize(self, reals: str, qparams: QParams, owner: str) -> str:
        """clip(rint(x / scale) + zero_point) to all integers of the dtype."""
        return self.emit("QuantizeLinear", (reals, *self._qparams(qparams, owner)), owner, **_axis(qparams))

    def _qparams(self, qparams: QParams, owner: str) -> tuple[str, ...]:
        """Names of scale and zero point; ONNX has no zero point for int32."""
        zero_point = qparams.zero_point.to(qparams.spec.torch_dtype)
        if qparams.spec.axis is None:
            names = self.number(qparams.scale), self.number(zero_point, zero_point.dtype)
        else:
            names = self.tensor(f"{owner}_scale", qparams.scale.numpy()), self.number(zero_point, zero_point.dtype)
        return names[:1] if qparams.spec.dtype == "int32" else names


def _axis(qparams: QParams) -> dict[str, int]:
    return {} if qparams.spec.axis is None else {"axis": qparams.spec.axis}
