"""Modules of torch that hold attention, as they are traced: with masks, weights, keys of their own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.lowering.executable import regions_of
from fxq.passes import trace
from fxq.report.kinds import Kind
from tests.closeness import sqnr

PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
CAUSAL = nn.Transformer.generate_square_subsequent_mask(5)
NAMES = ("query", "key", "value")
ENCODER = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2).eval()
DECODER = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 2).eval()
MEMORY = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
CALLS: Mapping[str, dict[str, Any]] = {
    "plain": {"need_weights": False},
    "padding": {"key_padding_mask": PADDING, "need_weights": False},
    "causal": {"attn_mask": CAUSAL, "need_weights": False},
    "pairs": {"attn_mask": CAUSAL.isinf()},
    "pairs of heads": {"attn_mask": torch.randn(8, 5, 5, generator=torch.Generator().manual_seed(0))},
    "both": {"attn_mask": CAUSAL.isinf(), "key_padding_mask": PADDING, "average_attn_weights": False},
}
MODULES: Mapping[str, dict[str, Any]] = {
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
    "keys and values of other sizes": {"kdim": 12, "vdim": 20, "batch_first": True},
    "more keys": {"add_bias_kv": True, "add_zero_attn": True},
}


@pytest.mark.parametrize("options", MODULES.values(), ids=list(MODULES))
@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_every_call_is_traced(call: dict[str, Any], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(16, 4, **options).eval()
    shape = (2, 5) if model.batch_first else (5, 2)
    tensors = {name: torch.randn(*shape, size) for name, size in zip(NAMES, (16, model.kdim, model.vdim), strict=True)}
    traced = trace(model, {**tensors, **call})
    assert not [node for node in traced.graph.nodes if "multi_head_attention" in str(node.target)]
    expected, found = model(**tensors, **call), traced(**tensors, **call)
    torch.testing.assert_close(found[0], expected[0])
    assert (found[1] is None) == (expected[1] is None)
    if expected[1] is not None:
        torch.testing.assert_close(found[1], expected[1])


def test_without_a_batch() -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(16, 4).eval()
    given = {**dict.fromkeys(NAMES, torch.randn(5, 16)), "key_padding_mask": PADDING[1], "attn_mask": CAUSAL.isinf()}
    for found, expected in zip(trace(model, given)(**given), model(**given), strict=True):
        torch.testing.assert_close(found, expected)


MASKED: Mapping[str, tuple[nn.Module, dict[str, Any]]] = {
    "encoder, padding": (ENCODER, {"src_key_padding_mask": PADDING}),
    "encoder, causal": (ENCODER, {"mask": CAUSAL, "is_causal": True}),
    "encoder, both": (ENCODER, {"mask": CAUSAL.isinf(), "src_key_padding_mask": PADDING}),
    "decoder": (DECODER, {"memory": MEMORY, "tgt_mask": CAUSAL, "memory_key_padding_mask": PADDING}),
}


@pytest.mark.parametrize(("model", "masks"), MASKED.values(), ids=list(MASKED))
@pytest.mark.parametrize("qconfig", [fxq.per_row_dynamic_qconfig, fxq.get_default_qconfig("x86")], ids=["dynamic", "calibrated"])
def test_transformers_with_masks(model: nn.Module, masks: dict[str, Any], qconfig: fxq.QConfig) -> None:
    """Every projection is int8, and what the mask says holds for inputs with another one."""
    x, mapping = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1)), fxq.QConfigMapping().set_global(qconfig)
    first = next(iter(inspect.signature(model.forward).parameters))
    prepared = fxq.prepare_fx(model, mapping, {first: x, **masks})
    with torch.no_grad():
        prepared(**{first: x, **masks})
        int8, seen = fxq.convert_fx(prepared), ~PADDING
        shorter = {name: mask.logical_not() & PADDING if mask is PADDING else mask for name, mask in masks.items()}
        for given in (masks, shorter):
            assert sqnr(int8(x, **given)[seen], model(x, **given)[seen]) > 25
    rows = fxq.report(int8).rows
    assert {row.kind for row in rows if row.weight_bytes and "LayerNorm" not in row.what} <= {Kind.INT8, Kind.DYNAMIC}
    assert not int8.islands


class WrittenOut(nn.Module):
    """Attention of a decoder as tutorials write it, with a scale that is computed from sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.register_buffer("seen", torch.ones(40, 40).tril())

    def forward(self, x: Tensor) -> Tensor:
        samples, tokens, features = x.size()
        q, k, v = (part.view(samples, tokens, 4, features // 4).transpose(1, 2) for part in self.qkv(x).split(features, 2))
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        weights = scores.masked_fill(self.seen[:tokens, :tokens] == 0, -math.inf).softmax(-1)
        y: Tensor = self.out((weights @ v).transpose(1, 2).contiguous().view(samples, tokens, features))
        return y


class Asked(nn.Module):
    """A layer that gives weights, which nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attend(x, x, x)[0]
        return y


@pytest.mark.parametrize("model", [WrittenOut().eval(), Asked().eval()], ids=["written out", "asked"])
def test_attention_that_is_written_out_is_one_op_between_dynamic_layers(model: nn.Module) -> None:
    mapping, generator = fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig), torch.Generator().manual_seed(0)
    inputs = [torch.randn(samples, tokens, 32, generator=generator) for samples, tokens in ((2, 9), (1, 1), (3, 40))]
    int8 = fxq.convert_fx(fxq.prepare_fx(model, mapping, inputs[:1]))
    with torch.no_grad():
        for x in inputs:
            assert sqnr(int8(x), model(x)) > 30
    (region,) = regions_of(int8)
    assert not region.refused and [call.planned.kernel.name for call in region.programs[-1].calls].count("attention") == 1


@pytest.mark.parametrize("kind", [nn.TransformerEncoder, nn.MultiheadAttention])
def test_classes_that_the_user_names_stay_what_they_are(kind: type[nn.Module]) -> None:
    wish = fxq.PrepareCustomConfig().set_non_traceable_module_classes([kind])
    x = torch.randn(2, 5, 16)
    prepared = fxq.prepare_fx(nn.Sequential(ENCODER), fxq.get_default_qconfig_mapping(), (x,), prepare_custom_config=wish)
    kept = [module for module in prepared.modules() if type(module) is kind]
    assert len(kept) == (1 if kind is nn.TransformerEncoder else 2)
