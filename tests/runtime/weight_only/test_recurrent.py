"""LSTM, GRU and RNN with weights in few bits: those of torch, with the weights that the bits stand for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import fxq
from fxq.dynamic.modules import WEIGHT_ONLY_MODULES
from fxq.errors import ConfigError
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.recurrent import CompiledLayers
from fxq.runtime.weight_only.recurrent import WeightOnlyRecurrent, WeightOnlyRNN
from tests.closeness import sqnr
from tests.runtime.dynamic.test_recurrent import CELLS, EVERY_KIND, KINDS, tensors
from tests.runtime.jit.regions import EVERY_ISA

QCONFIGS = {"float16": fxq.float16_dynamic_qconfig, "8": fxq.weight_only_qconfig(8, 0), "4": fxq.weight_only_qconfig(4, 8, symmetric=True)}
EVERY_QCONFIG = pytest.mark.parametrize("qconfig", QCONFIGS.values(), ids=QCONFIGS)


def pair(kind: str, qconfig: fxq.QConfig, hidden: int = 20) -> tuple[nn.RNNBase, WeightOnlyRNN]:
    """The op, and the float module with the weights that the op's stand for."""
    torch.manual_seed(7)
    module, options = KINDS[kind]
    made: nn.RNNBase = module(12, hidden, **options).eval()
    small = WEIGHT_ONLY_MODULES[module](made, qconfig)
    assert isinstance(small, WeightOnlyRNN)
    return with_its_weights(made, small), small


def with_its_weights(module: Any, small: WeightOnlyRecurrent) -> Any:
    for name, weights in small.weights.items():
        end = name if isinstance(module, nn.RNNBase) else name.removesuffix("_l0")
        getattr(module, f"weight_{end}").data = weights.real()
    return module


def assert_close(found: Any, expected: Any) -> None:
    for mine, theirs in zip(tensors(found), tensors(expected), strict=True):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        assert sqnr(mine, theirs) > 110


@EVERY_QCONFIG
@EVERY_KIND
def test_like_the_float_module(kind: str, qconfig: fxq.QConfig) -> None:
    module, small = pair(kind, qconfig)
    x, packed = torch.randn(6, 4, 12), pack_padded_sequence(torch.randn(5, 3, 12), torch.tensor([2, 5, 1]), enforce_sorted=False)
    for given in (x, x[:, 0], packed):
        assert_close(small(given), module(given))
    if not module.batch_first:
        assert_close(small(x, small(x)[1]), module(x, module(x)[1]))


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("hidden", [8, 33])
@pytest.mark.parametrize("kind", ["lstm", "lstm with projections", "gru in both directions", "rnn"])
@EVERY_QCONFIG
def test_compiled(kind: str, qconfig: fxq.QConfig, hidden: int, isa: Isa) -> None:
    """A sequence is computed alike alone and among others."""
    _, small = pair(kind, qconfig, hidden)
    small.__dict__["_compiled"] = CompiledLayers([small.layer(suffix) for suffix in small.shape.suffixes], isa)
    by_torch = copy.deepcopy(small)
    by_torch.run_with("integer")
    x = torch.randn(4, 11, 12)
    together = small(x)
    assert_close(together, by_torch(x))
    for sequences in (1, 2, 9):
        assert torch.equal(small(x[:, :sequences])[0], together[0][:, :sequences])


@EVERY_QCONFIG
@pytest.mark.parametrize("cell", CELLS)
def test_cells(cell: str, qconfig: fxq.QConfig) -> None:
    torch.manual_seed(3)
    module = CELLS[cell](12, 20).eval()
    small = WEIGHT_ONLY_MODULES[CELLS[cell]](module, qconfig)
    assert isinstance(small, WeightOnlyRecurrent)
    module, x = with_its_weights(module, small), torch.randn(5, 12)
    states = module(x)
    assert_close(small(x), states)
    assert_close(small(x, states), module(x, states))


def test_bytes_and_state_dict() -> None:
    model, x = nn.Sequential(nn.LSTM(64, 64, 2)).eval(), torch.randn(3, 2, 64)
    small, other = (fxq.quantize_dynamic(nn.Sequential(nn.LSTM(64, 64, 2)), dtype=torch.float16) for _ in range(2))
    small = fxq.quantize_dynamic(model, dtype=torch.float16)
    stored = small.state_dict()
    assert sum(tensor.nbytes for tensor in stored.values()) < 0.52 * sum(tensor.nbytes for tensor in model.state_dict().values())
    other(x)  # compiled already
    other.load_state_dict(stored)
    assert torch.equal(other(x)[0], small(x)[0])
    assert "WeightOnlyLSTM(64, 64, num_layers=2, w: float16)" in str(small)


def test_weights_that_are_not_finite() -> None:
    model = nn.GRU(4, 4)
    model.weight_hh_l0.data[1, 2] = torch.nan
    with pytest.raises(ConfigError, match=r"(?s)GRU.weight_hh_l0.*finite"):
        fxq.quantize_dynamic(model, dtype=torch.float16)
