"""GPT-2 of transformers, small and with random weights: its linear layers are transformers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import fxq
from benchmarks.architectures import import_models
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.weight_only.linear import WeightOnlyLinear
from tests.closeness import sqnr


@pytest.fixture(scope="module")
def model() -> nn.Module:
    try:
        import_models()  # transformers imports torchvision
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError as missing:
        pytest.skip(f"not installed: {missing.name}")
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2)).eval()


@pytest.mark.parametrize(("spec", "form"), [(None, DynamicLinear), ({nn.Linear: fxq.weight_only_qconfig(8, 16)}, WeightOnlyLinear)])
def test_all_linear_layers_are_quantized(model: nn.Module, spec: Any, form: type) -> None:
    quantized, words = fxq.quantize_dynamic(model, spec), torch.randint(0, 50, (2, 9))
    assert sum(isinstance(module, form) for module in quantized.modules()) == 4 * 2 + 1
    with torch.no_grad():
        assert sqnr(quantized(words).logits, model(words).logits) > 30


def test_one_token_after_the_other(model: nn.Module) -> None:
    """With keys and values of the tokens before: what a server runs."""
    quantized, words = fxq.quantize_dynamic(model), torch.randint(0, 50, (1, 6))
    with torch.no_grad():
        whole, past, steps = quantized(words).logits, None, []
        for step in range(6):
            found = quantized(words[:, step : step + 1], past_key_values=past, use_cache=True)
            past, steps = found.past_key_values, [*steps, found.logits]
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=1e-4)  # each row has a scale of its own


def test_a_step_with_a_cache_as_one_graph(model: nn.Module) -> None:
    """The token looks at all that came before, however much that is."""
    words, mapping = torch.randint(0, 50, (1, 8)), fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig)
    with torch.no_grad():
        exact, ours = (model(words[:, :4], use_cache=True).past_key_values for _ in range(2))
        inputs = {"input_ids": words[:, 4:5], "past_key_values": ours, "use_cache": True}
        int8 = fxq.convert_fx(fxq.prepare_fx(model, mapping, inputs))
        for step in range(4, 8):
            expected = model(words[:, step : step + 1], past_key_values=exact, use_cache=True).logits
            found = int8(input_ids=words[:, step : step + 1], past_key_values=ours, use_cache=True).logits
            assert sqnr(found, expected) > 30
    assert ours.get_seq_length() == 8 and not int8.islands
