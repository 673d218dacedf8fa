"""Embeddings of few bits are those of the floats that the bits stand for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fxq.dynamic.modules import make_embedding, make_embedding_bag
from fxq.qconfig_mapping import float_qparams_weight_only_qconfig, float_qparams_weight_only_qconfig_4bit, weight_only_qconfig

QCONFIGS = [float_qparams_weight_only_qconfig, float_qparams_weight_only_qconfig_4bit, weight_only_qconfig(4, 8)]


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
