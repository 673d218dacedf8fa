"""Weights that meet float values, in few bits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from fxq.errors import ConfigError
from fxq.graph.groups import group_weights
from fxq.passes import Context
from fxq.passes.shrink_weights import shrink_weights

MAPPING = fxq.QConfigMapping().set_global(fxq.weight_only_qconfig(4, 8))


class Tied(nn.Module):
    """An embedding whose weight is that of the output layer, and of a call."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(10, 16), nn.Linear(16, 10)
        self.out.weight = self.embed.weight

    def forward(self, words: Tensor) -> Tensor:
        y = self.embed(words)
        return self.out(y) + F.linear(y, self.embed.weight)


def reference(model: nn.Module, mapping: fxq.QConfigMapping, x: Tensor) -> fxq.FxqModule:
    return fxq.convert_to_reference_fx(fxq.prepare_fx(model.eval(), mapping, (x,)))


def test_a_shared_weight_is_stored_once() -> None:
    made = reference(Tied(), MAPPING, torch.zeros(2, 3, dtype=torch.long))
    assert fxq.print_graph(made) == (
        "words: i64[2, 3] = input\n"
        "embed_weight_2_dq: f32[10, 16] = dequantize_groups(@embed.weight_1[u8, 10, 8], scale=@embed.weight_1_scale[10, 2], "
        "zero=@embed.weight_1_zero[10, 2], group=8, features=16)\n"
        "embed: f32[2, 3, 16] = embedding(words, embed_weight_2_dq)\n"
        "out: f32[2, 3, 10] = linear(embed, embed_weight_2_dq, @out.bias[10])\n"
        "linear: f32[2, 3, 10] = linear(embed, embed_weight_2_dq)\n"
        "add: f32[2, 3, 10] = add(out, linear)\n"
        "output add\n"
    )


def test_values_are_those_that_the_format_has() -> None:
    model, words = Tied(), torch.arange(6).reshape(2, 3)
    made = reference(model, MAPPING, words)
    format = fxq.weight_only_qconfig(4, 8).weight_format
    assert format is not None
    rounded = Tied()
    rounded.load_state_dict(model.state_dict())
    rounded.embed.weight.data = group_weights(model.embed.weight, format).real()
    torch.testing.assert_close(made(words), rounded(words))


def test_a_second_run_changes_nothing() -> None:
    made = reference(Tied(), MAPPING, torch.zeros(2, 3, dtype=torch.long))
    before = fxq.print_graph(made)
    assert made.profile is not None
    assert shrink_weights(made, Context(made.profile)) == 0
    assert fxq.print_graph(made) == before


def test_weights_that_are_not_finite() -> None:
    model = Tied()
    model.embed.weight.data[3, 2] = float("nan")
    with pytest.raises(ConfigError, match=r"(?s)embed\.weight.*NaN"):
        reference(model, MAPPING, torch.zeros(2, 3, dtype=torch.long))
