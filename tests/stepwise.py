"""LOWERED against REFERENCE, op by op: each integer op gets the integers of the reference graph, so that no error accumulates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Interpreter, Node

from fxq.graph.annotation import quant_of
from fxq.graph.module import FxqModule
from fxq.graph.ops import call_of
from fxq.graph.qdq import is_quantize, qparams_of

# ops whose integers are the reference's, bit for bit: they choose and move integers, or clamp them between quantized bounds
EXACT = frozenset(
    {"relu", "clamp", "max_pool", "adaptive_max_pool", "cat", "pad", "flatten", "reshape", "permute", "transpose", "squeeze", "unsqueeze",
     "contiguous", "getitem", "identity", "dropout", "amax", "amin", "maximum", "minimum", "stack", "chunk", "split", "unbind", "expand",
     "repeat", "roll", "flip", "unflatten", "narrow", "select", "index_select", "movedim", "repeat_interleave",
     "unfold", "tensor_split", "clone", "where", "setitem", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"}
)  # fmt: skip

# ops whose bias is rounded to whole accumulators
WITH_BIAS = ("conv", "conv_transpose", "linear")


@dataclass(frozen=True)
class OpError:
    """How far one integer op is from the float op that it stands for, on the same integers.

    Attributes:
        node, op: its name, and the canonical op of the reference graph ("requantize" for a change of qparams).
        steps: the largest difference, in quantization steps of the result; of a float result in steps of the accumulator.
        rate: the share of results that differ; of a float result 0.
        allowed: the bound on `steps` by numerics.md.
    """

    node: str
    op: str
    steps: float
    rate: float
    allowed: float


def op_errors(reference: FxqModule, lowered: FxqModule, inputs: Sequence[Tensor]) -> list[OpError]:
    """One entry for each node that computes on integers in the lowered graph."""
    values = Recorder(reference).record(inputs)
    replay = _Replay(reference, lowered, values)
    replay.run(*inputs)
    return replay.errors


class Recorder(Interpreter):
    """Every value of a run, by name of the node."""

    def record(self, inputs: Sequence[Tensor]) -> dict[str, Any]:
        self.values: dict[str, Any] = {}
        with torch.no_grad():
            self.run(*inputs)
        return self.values

    def run_node(self, n: Node) -> Any:
        self.values[n.name] = super().run_node(n)
        return self.values[n.name]


class _Replay(Interpreter):
    """Runs the lowered graph; each value is compared with the reference's, which the readers then get."""

    def __init__(self, reference: FxqModule, lowered: FxqModule, values: Mapping[str, Any]) -> None:
        super().__init__(lowered)
        self.reference = {node.name: node for node in reference.graph.nodes}
        self.values = values
        self.errors: list[OpError] = []

    def run_node(self, n: Node) -> Any:
        with torch.no_grad():
            found = super().run_node(n)
        if n.op in ("placeholder", "get_attr", "output") or n.name not in self.reference or not isinstance(found, Tensor):
            return found
        expected = self._expected(n.name, found)
        self._compare(n, found, expected)
        return expected

    def _expected(self, name: str, found: Tensor) -> Tensor:
        """A quantized value is that of the quantize node behind the float op."""
        quantized = f"{name}_q"
        has_integers = not found.is_floating_point() and quantized in self.values
        value = self.values[quantized if has_integers else name]
        assert value.dtype == found.dtype, f"{name}: {found.dtype} in the lowered graph, {value.dtype} in the reference"
        assert value.shape == found.shape, f"{name}: {found.shape} in the lowered graph, {value.shape} in the reference"
        assert isinstance(value, Tensor)
        return value

    def _compare(self, n: Node, found: Tensor, expected: Tensor) -> None:
        node = self.reference[n.name]
        quant, call = quant_of(node), call_of(node)
        if is_quantize(node):
            if n.op == "call_module":
                self._note(node, "requantize", found, expected)
            else:
                assert torch.equal(found, expected), f"{n.name} quantizes differently"
        elif quant is not None and quant.is_int8 and quant.inputs and call is not None and not found.is_floating_point():
            self._note(node, call.op.name, found, expected)
        elif quant is not None and quant.is_int8 and quant.inputs and call is not None:
            self._note_float(node, call.op.name, found, expected)
        else:
            assert torch.equal(found.nan_to_num(), expected.nan_to_num()), f"{n.name} is another float op"

    def _note(self, node: Node, op: str, found: Tensor, expected: Tensor) -> None:
        delta = (found.to(torch.int64) - expected.to(torch.int64)).abs()
        steps = float(delta.max()) if delta.numel() else 0.0
        rate = float((delta > 0).to(torch.float64).mean()) if delta.numel() else 0.0
        self.errors.append(OpError(node.name, op, steps, rate, self._allowed(node, op)))

    def _note_float(self, node: Node, op: str, found: Tensor, expected: Tensor) -> None:
        step = self._accumulator_step(node)
        channels = step.reshape(-1, *[1] * (found.ndim - 2)) if op in ("conv", "conv_transpose") and step.ndim else step
        delta = (found - expected).abs() / channels
        # float32 sums in another order: some units in the last place of the largest partial sum
        rounding = float((expected.abs() / channels).max()) * 2.0**-18 if delta.numel() else 0.0
        steps = float(delta.max()) if delta.numel() else 0.0
        # only a bias is rounded, to whole accumulators; averages have none
        self.errors.append(OpError(node.name, op, steps, 0.0, 0.001 + rounding + (0.5 * self._steepness(node) if op in WITH_BIAS else 0.0)))

    def _accumulator_step(self, node: Node) -> Tensor:
        call = call_of(node)
        assert call is not None
        x = qparams_of(call.operands["input"]).scale
        return x * qparams_of(call.operands["weight"]).scale if "weight" in call.operands else x

    def _steepness(self, node: Node) -> float:
        """The largest slope of the activation that the op holds: 1.5 for hardswish, at 3."""
        call = call_of(node)
        assert call is not None
        return 1.5 if call.operands.get("act") == ("hardswish",) else 1.0

    def _allowed(self, node: Node, op: str) -> float:
        """1 step where a rounding may go the other way; the bias of conv and linear is rounded to whole accumulators first."""
        if op in EXACT:
            return 0.0
        if op not in WITH_BIAS:
            return 1.0
        (y,) = (qparams_of(reader) for reader in node.users if is_quantize(reader))
        return 1.0 + math.floor(0.5 * self._steepness(node) * float((self._accumulator_step(node) / y.scale).max()) + 0.01)
