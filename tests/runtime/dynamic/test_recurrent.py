"""LSTM, GRU and RNN: like the float modules but for the rounding, compiled like torch's integer ops bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

import fxq
from fxq.dynamic.modules import DYNAMIC_MODULES
from fxq.errors import DataError
from fxq.runtime.dynamic.recurrent import DynamicRNN
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.recurrent import CompiledLayers
from tests.runtime.jit.regions import EVERY_ISA

KINDS: Mapping[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "lstm": (nn.LSTM, {}),
    "lstm of two layers, both directions": (nn.LSTM, {"num_layers": 2, "bidirectional": True, "dropout": 0.5}),
    "lstm with projections": (nn.LSTM, {"proj_size": 7, "bidirectional": True}),
    "lstm without biases, batch first": (nn.LSTM, {"bias": False, "batch_first": True}),
    "gru": (nn.GRU, {"num_layers": 2}),
    "gru in both directions": (nn.GRU, {"bidirectional": True}),
    "rnn": (nn.RNN, {}),
    "rnn with relu": (nn.RNN, {"nonlinearity": "relu", "bidirectional": True}),
}
CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def pair(kind: str, hidden: int = 20) -> tuple[nn.RNNBase, DynamicRNN]:
    torch.manual_seed(7)
    module, options = KINDS[kind]
    made: nn.RNNBase = module(12, hidden, **options).eval()
    dynamic = DYNAMIC_MODULES[module](made, fxq.per_channel_dynamic_qconfig)
    assert isinstance(dynamic, DynamicRNN)
    return made, dynamic


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, PackedSequence):
        yield value.data
    else:
        for item in value:
            yield from tensors(item)


def assert_close(found: Any, expected: Any, decibels: float = 36) -> None:
    for mine, theirs in zip(tensors(found), tensors(expected), strict=True):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        noise = (mine - theirs).double().square().mean()
        assert float(10 * torch.log10(theirs.double().square().mean() / noise)) >= decibels


def assert_same(found: Any, expected: Any) -> None:
    for mine, theirs in zip(tensors(found), tensors(expected), strict=True):
        assert torch.equal(mine, theirs)


@EVERY_KIND
def test_like_the_float_module(kind: str) -> None:
    module, dynamic = pair(kind)
    x = torch.randn(6, 4, 12)
    with torch.no_grad():
        output, states = module(x)
        assert_close(dynamic(x), (output, states))
        assert_close(dynamic(x, states), module(x, states)) if not module.batch_first else None
        assert_close(dynamic(x[:, 0]), module(x[:, 0]))


@EVERY_KIND
def test_packed_sequences_are_each_what_they_are_alone(kind: str) -> None:
    module, dynamic = pair(kind)
    sequences = [torch.randn(length, 12) for length in (3, 7, 1, 5)]
    packed = pack_sequence(sequences, enforce_sorted=False)
    with torch.no_grad():
        assert_close(dynamic(packed), module(packed))
        output, last = dynamic(packed)
        padded, lengths = pad_packed_sequence(output)
        for number, sequence in enumerate(sequences):
            alone, alone_last = dynamic(sequence)
            assert torch.equal(padded[: lengths[number], number], alone)
            assert_same([state[:, number] for state in tensors(last)], list(tensors(alone_last)))


@EVERY_KIND
def test_what_is_to_come_changes_nothing(kind: str) -> None:
    module, dynamic = pair(kind)
    if module.bidirectional or module.batch_first:
        return
    x = torch.randn(6, 4, 12)
    assert torch.equal(dynamic(x)[0][:3], dynamic(x[:3])[0])


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("hidden", [8, 16, 33])
@EVERY_KIND
def test_compiled(kind: str, hidden: int, isa: Isa) -> None:
    _, dynamic = pair(kind, hidden)
    dynamic.__dict__["_compiled"] = CompiledLayers([dynamic.layer(suffix) for suffix in dynamic.shape.suffixes], isa)
    integer = copy.deepcopy(dynamic)
    integer.run_with("integer")
    for sequences in (1, 2, 8, 9):
        x = torch.randn(4, sequences, 12)
        assert_same(dynamic(x), integer(x))
    packed = pack_padded_sequence(torch.randn(5, 3, 12), torch.tensor([2, 5, 1]), enforce_sorted=False)
    assert_same(dynamic(packed), integer(packed))


def test_compiled_on_several_threads() -> None:
    _, dynamic = pair("lstm", 64)
    integer = copy.deepcopy(dynamic)
    integer.run_with("integer")
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for sequences in (1, 2, 7, 16):
            x = torch.randn(9, sequences, 12)
            assert_same(dynamic(x), integer(x))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_stay_in_their_sequence(value: float) -> None:
    _, dynamic = pair("lstm")
    x = torch.randn(4, 3, 12)
    expected = dynamic(x)[0]
    x[1, 2, 5] = value
    found = dynamic(x)[0]
    assert torch.equal(found[:, :2], expected[:, :2]) and torch.equal(found[0], expected[0])
    assert bool(found[1:, 2].isnan().all())


@pytest.mark.parametrize("cell", CELLS)
def test_cells(cell: str) -> None:
    torch.manual_seed(3)
    module = CELLS[cell](12, 20).eval()
    dynamic = DYNAMIC_MODULES[CELLS[cell]](module, fxq.default_dynamic_qconfig)
    assert dynamic is not None
    x = torch.randn(5, 12)
    with torch.no_grad():
        states = module(x)
        assert_close(dynamic(x), states)
        assert_close(dynamic(x, states), module(x, states))
        assert_close(dynamic(x[0]), module(x[0]))


def test_half_precision_and_empty_batch() -> None:
    _, dynamic = pair("gru")
    x = torch.randn(4, 3, 12)
    assert_close(dynamic(x.half())[0].float(), dynamic(x)[0])
    output, last = dynamic(torch.randn(4, 0, 12))
    assert output.shape == (4, 0, 20) and last.shape == (2, 0, 20)


def test_what_it_cannot_take() -> None:
    _, dynamic = pair("lstm")
    with pytest.raises(DataError, match="float tensor"):
        dynamic(torch.zeros(2, 3, 11))
    with pytest.raises(DataError, match="at least one step"):
        dynamic(torch.zeros(0, 3, 12))
    with pytest.raises(DataError, match=r"a state \[1, 3, 20\]"):
        dynamic(torch.zeros(2, 3, 12), (torch.zeros(1, 4, 20), torch.zeros(1, 4, 20)))
    with pytest.raises(DataError, match="2 tensors of states"):
        dynamic(torch.zeros(2, 3, 12), torch.zeros(1, 3, 20))


def test_state_dict_there_and_back() -> None:
    _, dynamic = pair("lstm")
    x = torch.randn(4, 3, 12)
    other = copy.deepcopy(dynamic)
    for buffer in other.buffers():
        buffer.zero_()
    assert not torch.equal(other(x)[0], dynamic(x)[0])
    other.load_state_dict(dynamic.state_dict())
    assert_same(other(x), dynamic(x))
