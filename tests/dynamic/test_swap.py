"""quantize_dynamic: which modules are replaced, and what the model around them still does."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import ConfigError
from fxq.report import Kind
from fxq.runtime.dynamic.attention import DynamicAttention
from fxq.runtime.dynamic.conv import DynamicConv
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.dynamic.op import DynamicOp
from fxq.runtime.dynamic.recurrent import DynamicRNN
from fxq.runtime.weight_only.embedding import WeightOnlyEmbedding
from fxq.runtime.weight_only.linear import WeightOnlyLinear
from tests.closeness import sqnr


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.head = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 5))

    def forward(self, words: Tensor) -> Tensor:
        result: Tensor = self.head(self.lstm(self.embed(words))[0])
        return result


def test_the_call_that_everybody_copies() -> None:
    torch.manual_seed(0)
    model, words = Tagger().eval(), torch.randint(0, 50, (3, 7))
    quantized = fxq.quantize_dynamic(model, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
    assert isinstance(quantized.lstm, DynamicRNN) and isinstance(quantized.head[0], DynamicLinear)
    assert type(model.lstm) is nn.LSTM and type(quantized.embed) is nn.Embedding
    assert sqnr(quantized(words), model(words)) > 30


def test_without_a_set_everything_that_can_be_is_quantized() -> None:
    quantized = fxq.quantize_dynamic(Tagger())
    assert not quantized.training
    assert [type(module).__name__ for module in quantized.modules() if isinstance(module, DynamicOp)] == [
        "DynamicRNN", "DynamicLinear", "DynamicLinear",
    ]  # fmt: skip


def test_paths_go_before_types_and_speak_for_what_is_below() -> None:
    quantized = fxq.quantize_dynamic(Tagger(), {"head": fxq.per_row_dynamic_qconfig, "head.2": None, nn.LSTM: fxq.default_dynamic_qconfig})
    assert isinstance(quantized.head[0], DynamicLinear) and quantized.head[0].per_row
    assert type(quantized.head[2]) is nn.Linear and isinstance(quantized.lstm, DynamicRNN)


def test_convolutions_where_they_are_named() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv1d(4, 6, 3, padding=1), nn.ReLU(), nn.Linear(9, 2)).eval(), torch.randn(2, 4, 9)
    assert type(fxq.quantize_dynamic(model)[0]) is nn.Conv1d  # type: ignore[index]
    quantized = fxq.quantize_dynamic(model, {nn.Conv1d, nn.Linear})
    assert isinstance(quantized[0], DynamicConv) and sqnr(quantized(x), model(x)) > 30  # type: ignore[index]


def test_in_place_and_a_single_module() -> None:
    model = Tagger()
    assert fxq.quantize_dynamic(model, inplace=True) is model and isinstance(model.lstm, DynamicRNN)
    assert isinstance(fxq.quantize_dynamic(nn.Linear(3, 4)), DynamicLinear)


def test_a_module_in_two_places_stays_one() -> None:
    shared = nn.Linear(4, 4)
    quantized = fxq.quantize_dynamic(nn.Sequential(shared, nn.ReLU(), shared))
    assert isinstance(quantized[0], DynamicLinear) and quantized[0] is quantized[2]


def test_tied_weights_stay_with_the_embedding() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(30, 8), nn.Linear(8, 30, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, words: Tensor) -> Tensor:
            logits: Tensor = self.out(self.embed(words))
            return logits

    model, words = Tied().eval(), torch.arange(30)
    quantized = fxq.quantize_dynamic(model, {nn.Linear})
    assert quantized.embed.weight.dtype == torch.float32
    assert sqnr(quantized(words), model(words)) > 30


def test_modules_with_hooks_stay_float() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].register_forward_hook(lambda module, inputs, output: output)
    quantized = fxq.quantize_dynamic(model)
    assert type(quantized[0]) is nn.Linear and isinstance(quantized[1], DynamicLinear)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 12, "vdim": 20}])
def test_attention(batch_first: bool, sizes: dict[str, int]) -> None:
    torch.manual_seed(1)
    attention = nn.MultiheadAttention(32, 4, batch_first=batch_first, **sizes).eval()
    quantized = fxq.quantize_dynamic(attention, {nn.Linear})
    assert isinstance(quantized, DynamicAttention)
    query = torch.randn(3, 3, 32)
    key, value = (torch.randn(3, 3, sizes.get(name, 32)) for name in ("kdim", "vdim"))
    padding = torch.tensor([[False, False, True]] * 3)
    causal = nn.Transformer.generate_square_subsequent_mask(3)
    calls = (
        {}, {"need_weights": False}, {"average_attn_weights": False}, {"key_padding_mask": padding},
        {"attn_mask": causal, "is_causal": True}, {"attn_mask": torch.randn(12, 3, 3), "key_padding_mask": padding},
    )  # fmt: skip
    with torch.no_grad():
        for arguments in calls:
            for given in ((query, key, value), (query[0], key[0], value[0])):
                if given[0].ndim == 2:
                    arguments = {name: mask[0] if name == "key_padding_mask" else mask for name, mask in arguments.items()}
                    if "attn_mask" in arguments and arguments["attn_mask"].ndim == 3:
                        arguments["attn_mask"] = arguments["attn_mask"][:4]
                expected, found = attention(*given, **arguments), quantized(*given, **arguments)
                assert sqnr(found[0], expected[0]) > 28
                assert (found[1] is None) == (expected[1] is None)
                if expected[1] is not None:
                    assert found[1].shape == expected[1].shape and sqnr(found[1], expected[1]) > 28


def test_a_transformer_does_not_take_its_float_shortcut() -> None:
    torch.manual_seed(2)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2).eval()
    quantized = fxq.quantize_dynamic(encoder)
    x, padding = torch.randn(2, 5, 32), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        assert sqnr(quantized(x), encoder(x)) > 30
        found, expected = (model(x, src_key_padding_mask=padding)[~padding] for model in (quantized, encoder))
    assert sqnr(found, expected) > 30


def test_both_runtimes_have_the_same_bits() -> None:
    model, words = Tagger(), torch.randint(0, 50, (3, 7))
    compiled, integer = (fxq.quantize_dynamic(copy.deepcopy(model), runtime=runtime) for runtime in ("auto", "integer"))
    assert torch.equal(compiled(words), integer(words))
    assert integer.lstm.compiled() is None and compiled.lstm.compiled() is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"qconfig_spec": {"head.7"}}, r"head\.7.*no module of this name.*head\.0"),
        ({"qconfig_spec": {nn.Bilinear}}, "torch.nn.Bilinear.*without a dynamic form"),
        ({"qconfig_spec": {nn.Linear: fxq.default_qconfig}}, "dynamic or of weights only"),
        ({"qconfig_spec": "head"}, "a set of module types and names"),
        ({"dtype": torch.bfloat16}, "torch.bfloat16"),
        ({"runtime": "gpu"}, "auto, jit or integer"),
    ],
)
def test_what_cannot_be(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s){message}"):
        fxq.quantize_dynamic(Tagger(), **arguments)  # type: ignore[arg-type]


def test_nothing_to_quantize() -> None:
    with pytest.raises(ConfigError, match=r"(?s)at least one of torch.nn.Linear.*found: *none"):
        fxq.quantize_dynamic(nn.Sequential(nn.ReLU()))


def test_graphs_call_what_is_quantized_already_as_it_is() -> None:
    """Tracing into it would call compiled code with tensors that have no data."""
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    model = fxq.quantize_dynamic(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LSTM(4, 4)).eval())
    traced = fxq.fuse_fx(model, x)
    assert [row.kind for row in fxq.report(traced).rows] == [Kind.INPUT, Kind.DYNAMIC, Kind.FLOAT, Kind.DYNAMIC, Kind.OUTPUT]
    for found in (traced, fxq.quantize(model, [x], progress=False)):
        assert torch.equal(found(x)[0], model(x)[0])


def test_weights_in_few_bits() -> None:
    model, words = Tagger().eval(), torch.randint(0, 50, (3, 7))
    table = {nn.Embedding: fxq.float_qparams_weight_only_qconfig_4bit, nn.Linear: fxq.weight_only_qconfig(4, 8)}
    quantized = fxq.quantize_dynamic(model, {**table, nn.LSTM: fxq.default_dynamic_qconfig})
    assert isinstance(quantized.embed, WeightOnlyEmbedding) and isinstance(quantized.head[0], WeightOnlyLinear)
    assert isinstance(quantized.lstm, DynamicRNN)
    assert sqnr(quantized(words), model(words)) > 12


@pytest.mark.parametrize(
    ("dtype", "least"),
    [(torch.float16, {nn.Linear: 60, nn.LSTM: 60}), (torch.quint8, {nn.Embedding: 30}), (torch.quint4x2, {nn.Embedding: 12})],
)
def test_what_a_dtype_stands_for(dtype: torch.dtype, least: dict[type, float]) -> None:
    torch.manual_seed(0)
    model, words = Tagger().eval(), torch.randint(0, 50, (3, 7))
    for spec in (None, set(least)):
        quantized = fxq.quantize_dynamic(model, spec, dtype=dtype)
        changed = {type(before) for before, now in zip(model.modules(), quantized.modules(), strict=True) if type(now) is not type(before)}
        assert changed == set(least)
        assert sqnr(quantized(words), model(words)) > next(iter(least.values()))


def test_an_embedding_that_is_the_output_layer_too() -> None:
    """Each has a form of its own; the float model keeps its shared weight."""
    embed, head = nn.Embedding(40, 16), nn.Linear(16, 40, bias=False)
    head.weight = embed.weight
    model, words = nn.Sequential(embed, head).eval(), torch.randint(0, 40, (2, 5))
    quantized = fxq.quantize_dynamic(
        model, {nn.Embedding: fxq.float_qparams_weight_only_qconfig, nn.Linear: fxq.weight_only_qconfig(8, 16)}
    )
    assert isinstance(quantized[0], WeightOnlyEmbedding) and isinstance(quantized[1], WeightOnlyLinear)
    assert model[0].weight is model[1].weight
    assert sqnr(quantized(words), model(words)) > 35


def test_attention_with_weights_in_few_bits() -> None:
    model, x = nn.MultiheadAttention(16, 2, batch_first=True).eval(), torch.randn(2, 5, 16)
    quantized = fxq.quantize_dynamic(model, {nn.Linear: fxq.weight_only_qconfig(8, 0)})
    assert isinstance(quantized, DynamicAttention) and isinstance(quantized.query, WeightOnlyLinear)
    assert sqnr(quantized(x, x, x)[0], model(x, x, x)[0]) > 30


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ({nn.Conv1d: fxq.weight_only_qconfig()}, "which has no form"),
        ({"embed": fxq.default_dynamic_qconfig}, "which has no form"),
        ({nn.Embedding}, "which has no form"),
        ({nn.Linear: fxq.get_default_qconfig()}, "of weights only"),
    ],
)
def test_types_without_a_form(spec: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        fxq.quantize_dynamic(Tagger(), spec)


class Everything(nn.Module):
    """Each kind of layer that has a form."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.bag, self.lstm = nn.Embedding(50, 16), nn.EmbeddingBag(20, 16), nn.LSTM(16, 24, 2, batch_first=True)
        self.mix, self.attend, self.cell = nn.Linear(24, 16), nn.MultiheadAttention(16, 2, batch_first=True), nn.GRUCell(16, 8)

    def forward(self, words: Tensor) -> Tensor:
        y = self.mix(self.lstm(self.embed(words) + self.bag(words % 20)[:, None])[0])
        found: Tensor = self.cell(self.attend(y, y, y)[0].mean(1))
        return found


FORMS = {
    nn.Linear: fxq.per_row_dynamic_qconfig, nn.LSTM: fxq.default_dynamic_qconfig, nn.GRUCell: fxq.per_channel_dynamic_qconfig,
    nn.Embedding: fxq.weight_only_qconfig(4, 8), nn.EmbeddingBag: fxq.weight_only_qconfig(8, 0),
}  # fmt: skip


def test_a_state_dict_there_and_back() -> None:
    """Into the same code with other weights, quantized in the same way; it has to load without running anything."""
    words = torch.randint(0, 50, (3, 7))
    quantized, other = fxq.quantize_dynamic(Everything(), FORMS), fxq.quantize_dynamic(Everything(), FORMS)
    before, file = other(words), io.BytesIO()  # compiled already
    torch.save(quantized.state_dict(), file)
    assert file.tell() < 0.6 * sum(tensor.nbytes for tensor in Everything().state_dict().values())
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(words), quantized(words)) and not torch.equal(other(words), before)


def test_a_pickle_there_and_back() -> None:
    words = torch.randint(0, 50, (3, 7))
    quantized, file = fxq.quantize_dynamic(Everything(), FORMS), io.BytesIO()
    expected = quantized(words)  # machine code is not stored
    torch.save(quantized, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(words), expected)
    assert torch.equal(copy.deepcopy(quantized)(words), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_results_have_the_dtype_of_the_model(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, words = Everything().eval(), torch.randint(0, 50, (3, 7))
    quantized = fxq.quantize_dynamic(copy.deepcopy(model).to(dtype), {**FORMS, nn.Embedding: fxq.weight_only_qconfig(8, 0)})
    assert {each(words % 20).dtype for each in (quantized.embed, quantized.bag, quantized)} == {dtype}
    assert sqnr(quantized(words).float(), model(words)) > 20


class Conv1D(nn.Module):
    """transformers' own, which GPT-2 is made of."""

    __module__ = "transformers.pytorch_utils"

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.nf = outputs
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5), nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], self.nf)


@pytest.mark.parametrize(
    ("spec", "form", "least"),
    [
        (None, DynamicLinear, 35),
        ({nn.Linear}, DynamicLinear, 35),
        ({Conv1D: fxq.weight_only_qconfig(8, 0)}, WeightOnlyLinear, 40),
        ({nn.Linear: None, Conv1D: fxq.float16_dynamic_qconfig}, WeightOnlyLinear, 60),
        ({nn.Linear: None}, Conv1D, 200),
    ],
)
def test_a_linear_layer_with_a_transposed_weight(spec: Any, form: type, least: float) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(Conv1D(24, 16)).eval(), torch.randn(2, 5, 16)
    quantized = fxq.quantize_dynamic(model, spec)
    assert type(quantized[0]) is form
    assert sqnr(quantized(x), model(x)) > least
