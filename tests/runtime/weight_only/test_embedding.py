"""Embeddings of few bits are those of the floats that the bits stand for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxq.dynamic.modules import make_embedding, make_embedding_bag
from fxq.graph.groups import GroupedWeights, group_weights
from fxq.graph.weight_format import WeightFormat
from fxq.qconfig_mapping import float_qparams_weight_only_qconfig, float_qparams_weight_only_qconfig_4bit, weight_only_qconfig
from fxq.runtime.jit.embedding import CompiledBags, CompiledLookup
from fxq.runtime.jit.isa import Isa
from fxq.runtime.weight_only.bags import Bags, read_bags
from tests.runtime.jit.regions import EVERY_ISA

QCONFIGS = [
    float_qparams_weight_only_qconfig,
    float_qparams_weight_only_qconfig_4bit,
    weight_only_qconfig(4, 8),
    weight_only_qconfig(8, 24, symmetric=True),
    weight_only_qconfig(16, 0),
]


@pytest.mark.parametrize("qconfig", QCONFIGS, ids=str)
def test_lookup(qconfig: Any) -> None:
    module = nn.Embedding(50, 24, padding_idx=3)
    op = make_embedding(module, qconfig)
    assert op is not None
    indices = torch.randint(0, 50, (3, 0, 5)), torch.randint(0, 50, (3, 7)), torch.tensor(4, dtype=torch.int32)
    for each in indices:
        assert torch.equal(op(each), nn.functional.embedding(each, op.weights.real()))
    with pytest.raises((IndexError, RuntimeError)):
        op(torch.tensor([50]))


@pytest.mark.parametrize("qconfig", QCONFIGS, ids=str)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 3])
def test_bags(qconfig: Any, mode: str, padding: int | None) -> None:
    module = nn.EmbeddingBag(10, 24, mode=mode, padding_idx=padding)
    op = make_embedding_bag(module, qconfig)
    assert op is not None
    module.weight.data = op.weights.real()
    bags, flat, offsets = torch.randint(0, 10, (6, 5)), torch.randint(0, 10, (17,)), torch.tensor([0, 4, 4, 9])
    torch.testing.assert_close(op(bags), module(bags).detach())
    torch.testing.assert_close(op(flat, offsets), module(flat, offsets).detach())
    if mode == "sum":
        factors = torch.rand(17)
        torch.testing.assert_close(op(flat, offsets, factors), module(flat, offsets, factors).detach())


def test_offsets_that_end_with_the_number_of_indices() -> None:
    module = nn.EmbeddingBag(10, 8, include_last_offset=True)
    op = make_embedding_bag(module, float_qparams_weight_only_qconfig)
    assert op is not None
    flat, offsets = torch.randint(0, 10, (9,)), torch.tensor([0, 2, 9])
    assert op(flat, offsets).shape == (2, 8)
    torch.testing.assert_close(op(flat, offsets), nn.functional.embedding_bag(flat, op.weights.real(), offsets, include_last_offset=True))


def test_rows_that_change_as_they_are_read_stay_float() -> None:
    assert make_embedding(nn.Embedding(5, 8, max_norm=1.0), float_qparams_weight_only_qconfig) is None


def lookups(isa: Isa, weights: GroupedWeights) -> Callable[[Tensor], Tensor]:
    constants = [tensor for tensor in (weights.weight, weights.scale, weights.zero) if tensor is not None]
    return lambda indices: CompiledLookup(weights, isa)(indices, constants)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("features", [1, 8, 31, 64, 300])
@pytest.mark.parametrize("qconfig", QCONFIGS, ids=str)
def test_compiled_lookups_have_the_bits_of_torch(qconfig: Any, features: int, isa: Isa) -> None:
    weights = group_weights(torch.randn(20, features, generator=torch.Generator().manual_seed(1)), qconfig.weight_format)
    look_up, indices = lookups(isa, weights), torch.arange(39) % 20
    assert torch.equal(look_up(indices), weights.real()[indices])
    assert look_up(indices[:0]).shape == (0, features)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_every_value_that_weights_can_have(bits: int, isa: Isa) -> None:
    values = {4: torch.arange(-8, 8), 8: torch.arange(-128, 128), 16: torch.randn(500)}[bits].float()
    weights = group_weights(values[None], WeightFormat(bits, 0, True))  # type: ignore[arg-type]
    if weights.scale is not None:
        stored = values.to(torch.int8)[None]
        packed = (stored[:, 0::2].view(torch.uint8) & 15) | (stored[:, 1::2].view(torch.uint8) << 4) if bits == 4 else stored
        weights = replace(weights, weight=packed.contiguous(), scale=torch.ones(1, 1))
    assert torch.equal(lookups(isa, weights)(torch.zeros(1, dtype=torch.int64))[0], values.half().float() if bits == 16 else values)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("qconfig", QCONFIGS, ids=str)
def test_compiled_bags(qconfig: Any, mode: Any, isa: Isa) -> None:
    """Empty bags are 0; sums go in the order of the indices."""
    generator = torch.Generator().manual_seed(1)
    op = make_embedding_bag(nn.EmbeddingBag(50, 37, mode=mode, padding_idx=3), qconfig)
    assert op is not None
    op.__dict__["_compiled"] = CompiledBags(op.weights, mode, isa)
    by_torch = copy.deepcopy(op)
    by_torch.run_with("integer")
    indices, offsets = torch.randint(0, 50, (60,), generator=generator), torch.tensor([0, 0, 7, 7, 50, 60])
    rows, factors = torch.randint(0, 50, (4, 6), generator=generator), torch.rand(4, 6, generator=generator) if mode == "sum" else None
    for given in ((indices, offsets), (rows, None, factors), (rows[:0],), (indices.int(), offsets.int())):
        torch.testing.assert_close(op(*given), by_torch(*given), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("given", [((60,), [0, 70]), ((60,), [1, 7]), ((60,), [0, 9, 4]), ((6, 10), [0, 1]), ((60,), None)])
def test_bags_that_torch_does_not_take(given: tuple[tuple[int, ...], list[int] | None]) -> None:
    """They reach no compiled code."""
    shape, offsets = given
    assert (
        read_bags(Bags("sum"), 50, torch.zeros(shape, dtype=torch.int64), None if offsets is None else torch.tensor(offsets), None) is None
    )
    assert read_bags(Bags("sum"), 50, torch.full((2, 2), 50), None, None) is None
    assert read_bags(Bags("mean"), 50, torch.zeros(2, 2, dtype=torch.int64), None, torch.ones(2, 2)) is None


def test_both_runtimes_and_threads() -> None:
    op, indices = make_embedding(nn.Embedding(500, 64), weight_only_qconfig(4, 32)), torch.randint(0, 500, (3000,))
    assert op is not None
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = op(indices)
    finally:
        torch.set_num_threads(before)
    op.run_with("integer")
    assert op.compiled() is None and torch.equal(op(indices), found)
