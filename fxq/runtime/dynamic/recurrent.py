"""LSTM, GRU and RNN, whole layers and single cells; with int8 weights, inputs and hidden states are quantized as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fxq.errors import ConfigError, DataError
from fxq.runtime.dynamic.cells import CELLS, States
from fxq.runtime.dynamic.layers import Layer, Product, Steps, run_steps
from fxq.runtime.dynamic.op import Compiled, DynamicOp
from fxq.runtime.dynamic.product import RowProduct, RowWeights
from fxq.runtime.integer.outputs import FloatOutput

# what the names of the tensors of a matrix begin with
_KINDS = ("weight", "scale", "bias")


@dataclass(frozen=True)
class RecurrentShape:
    """What is asked of the module, in torch's words.

    Attributes:
        mode: a key of CELLS.
    """

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    batch_first: bool = False
    bidirectional: bool = False
    proj_size: int = 0

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What the names of a layer's tensors end in: every direction of every layer, in torch's order."""
        directions = ("", "_reverse") if self.bidirectional else ("",)
        return tuple(f"_l{layer}{direction}" for layer in range(self.num_layers) for direction in directions)

    @property
    def output_size(self) -> int:
        """Of one direction."""
        return self.proj_size or self.hidden_size

    @property
    def torch_name(self) -> str:
        """LSTM, GRU or RNN."""
        return self.mode.partition("_")[0]

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Name of each matrix, as "ih_l0" → its size, outputs before inputs."""
        rows, found = CELLS[self.mode].gates * self.hidden_size, dict[str, tuple[int, int]]()
        directions = 2 if self.bidirectional else 1
        for number, suffix in enumerate(self.suffixes):
            found[f"ih{suffix}"] = (rows, self.input_size if number < directions else directions * self.output_size)
            found[f"hh{suffix}"] = (rows, self.output_size)
            if self.proj_size:
                found[f"hr{suffix}"] = (self.proj_size, self.hidden_size)
        return found


class Recurrent(DynamicOp):
    """What layers and cells have in common, whatever their weights are.

    Every row is computed by itself: a sequence does not depend on the others of its batch, nor on what is to come.

    Args:
        shape: of the module.
    """

    def __init__(self, shape: RecurrentShape) -> None:
        super().__init__()
        self.shape = shape

    def layer(self, suffix: str) -> Layer:
        """The constants of one direction of one layer, as they are now."""
        products = self.products()
        return Layer(CELLS[self.shape.mode], products[f"ih{suffix}"], products[f"hh{suffix}"], products.get(f"hr{suffix}"))

    def products(self) -> Mapping[str, Product]:
        """Of each matrix of the shape."""
        raise NotImplementedError

    def compile_code(self) -> Compiled | None:
        from fxq.runtime.jit.recurrent import compile_layers  # only where it is wanted: LLVM takes a moment to load

        return compile_layers([self.layer(suffix) for suffix in self.shape.suffixes])

    def run_layer(self, number: int, rows: Tensor, sizes: Sequence[int], states: States) -> tuple[Tensor, States]:
        """All steps of a direction of a layer: step t takes the next sizes[t] rows, which belong to the first sequences.

        Args:
            number: of the direction among all, in torch's order; odd ones of a bidirectional module run backwards.
            rows: f32 [sum of sizes, features].
            states: f32 [sequences, size] each.

        Returns:
            the outputs [sum of sizes, size], and the states behind the last step of each sequence.
        """
        backwards = self.shape.bidirectional and number % 2 == 1
        steps, compiled = Steps(tuple(sizes), backwards), self.compiled(rows)
        if compiled is None:
            return run_steps(self.layer(self.shape.suffixes[number]), rows, steps, states)
        found: tuple[Tensor, States] = compiled(number, rows.contiguous(), steps, states)
        return found

    def _states(self, given: Any, sequences: int, like: Tensor) -> list[States]:
        """Per direction of each layer, its states: what was given, or zeros."""
        cell, shape = CELLS[self.shape.mode], self.shape
        sizes = (shape.output_size, shape.hidden_size)[: cell.states]
        count = len(shape.suffixes)
        if given is None:
            return [tuple(like.new_zeros(sequences, size, dtype=torch.float32) for size in sizes)] * count
        tensors = given if isinstance(given, tuple | list) else (given,)
        for tensor, size in zip(tensors, sizes, strict=False):
            if tuple(tensor.shape) != (count, sequences, size):
                raise self._error(f"a state [{count}, {sequences}, {size}]", f"{tuple(tensor.shape)}")
        if len(tensors) != cell.states:
            raise self._error(f"{cell.states} tensors of states", f"{len(tensors)}")
        return [tuple(tensor[number].to(torch.float32) for tensor in tensors) for number in range(count)]

    def _error(self, expected: str, found: str) -> DataError:
        return DataError(type(self).__name__, expected=expected, found=found, remedy="call it as the float module was called")

    def _check(self, x: Tensor, ranks: tuple[int, ...]) -> None:
        if x.ndim not in ranks or x.shape[-1] != self.shape.input_size or not x.is_floating_point():
            raise self._error(f"a float tensor [..., {self.shape.input_size}] with {' or '.join(map(str, ranks))} dimensions",
                              f"{x.dtype} {tuple(x.shape)}")  # fmt: skip

    def extra_repr(self) -> str:
        shape = self.shape
        named = {"num_layers": shape.num_layers, "bidirectional": shape.bidirectional, "proj_size": shape.proj_size}
        return ", ".join([f"{shape.input_size}, {shape.hidden_size}", *(f"{name}={value}" for name, value in named.items() if value)])


class RecurrentLayers(Recurrent):
    """nn.LSTM, nn.GRU or nn.RNN in evaluation: the same inputs, outputs and states. Dropout does nothing."""

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> Any:
        """As the float module's: (output, states). Takes packed sequences, unbatched and half-precision inputs."""
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        self._check(input, (2, 3))
        if input.ndim == 2:
            output, last = self._batched(input[:, None], _map(hx, lambda state: state[:, None]))
            return output[:, 0], _map(last, lambda state: state[:, 0])
        output, last = self._batched(input.transpose(0, 1) if self.shape.batch_first else input, hx)
        return (output.transpose(0, 1) if self.shape.batch_first else output), last

    def _batched(self, x: Tensor, hx: Any) -> tuple[Tensor, Any]:
        """x [steps, sequences, features]"""
        steps, sequences = x.shape[:2]
        if not steps:
            raise self._error("at least one step", f"{tuple(x.shape)}")
        rows, last = self._run(x.reshape(steps * sequences, x.shape[2]), [sequences] * steps, hx)
        return rows.reshape(steps, sequences, rows.shape[1]), last

    def _packed(self, x: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        self._check(x.data, (2,))
        sort, unsort = x.sorted_indices, x.unsorted_indices
        given = hx if sort is None else _map(hx, lambda state: state.index_select(1, sort))
        rows, last = self._run(x.data, x.batch_sizes.tolist(), given)
        packed = PackedSequence(rows, x.batch_sizes, sort, unsort)
        return packed, last if unsort is None else _map(last, lambda state: state.index_select(1, unsort))

    def _run(self, rows: Tensor, sizes: Sequence[int], hx: Any) -> tuple[Tensor, Any]:
        dtype, directions = rows.dtype, 2 if self.shape.bidirectional else 1
        states = self._states(hx, sizes[0], rows)
        values, last = rows.to(torch.float32), []
        for first in range(0, len(states), directions):
            results = [self.run_layer(number, values, sizes, states[number]) for number in range(first, first + directions)]
            values = results[0][0] if directions == 1 else torch.cat([output for output, _ in results], 1)
            last += [final for _, final in results]
        stacked = tuple(torch.stack(list(each)).to(dtype) for each in zip(*last, strict=True))
        return values.to(dtype), stacked if len(stacked) > 1 else stacked[0]


class RecurrentCell(Recurrent):
    """nn.LSTMCell, nn.GRUCell or nn.RNNCell: one step of one layer."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """As the float module's: the new states, of which an LSTM has two."""
        self._check(input, (1, 2))
        if input.ndim == 1:
            return _map(self._step(input[None], _map(hx, lambda state: state[None])), lambda state: state[0])
        return self._step(input, hx)

    def _step(self, x: Tensor, hx: Any) -> Any:
        states = self._states(_map(hx, lambda state: state[None]), len(x), x)[0]
        _, new = self.run_layer(0, x.to(torch.float32), [len(x)], states)
        found = tuple(state.to(x.dtype) for state in new)
        return found if len(found) > 1 else found[0]


class _Bytes(Recurrent):
    """Holds weight_ih_l0 s8, scale_ih_l0 f32, bias_ih_l0 f32, and so on. Inputs and hidden states are quantized row by row.

    Args:
        weights: "ih_l0", "hh_l0", ... → its matrix.

    Raises:
        ConfigError: an accumulator could overflow.
    """

    def __init__(self, shape: RecurrentShape, weights: Mapping[str, RowWeights]) -> None:
        super().__init__(shape)
        for name, matrix in weights.items():
            if matrix.overflow is not None:
                raise ConfigError(
                    f"{shape.mode}.weight_{name}", expected="sums that fit into 32 bits", found=matrix.overflow, remedy="leave it float"
                )
            for kind, tensor in zip(_KINDS, (matrix.weight.contiguous(), matrix.scale, matrix.bias), strict=True):
                self.register_buffer(f"{kind}_{name}", tensor)

    @property
    def weights(self) -> dict[str, RowWeights]:
        """The constants that it has now."""
        return {name: RowWeights(*(getattr(self, f"{kind}_{name}") for kind in _KINDS)) for name in self.shape.matrices()}

    def products(self) -> Mapping[str, Product]:
        return {name: RowProduct(matrix, FloatOutput(), per_row=True) for name, matrix in self.weights.items()}


class DynamicRNN(_Bytes, RecurrentLayers):
    """Layers with int8 weights."""

    def _get_name(self) -> str:
        return f"Dynamic{self.shape.torch_name}"


class DynamicRNNCell(_Bytes, RecurrentCell):
    """A cell with int8 weights."""

    def _get_name(self) -> str:
        return f"Dynamic{self.shape.torch_name}Cell"


def _map(states: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same of None, one tensor, or several."""
    if states is None:
        return None
    return tuple(map(function, states)) if isinstance(states, tuple | list) else function(states)
