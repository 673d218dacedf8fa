"""`python -m benchmarks.hugging_face`: architectures of transformers through prepare_fx and convert_fx, without hints.

Small configurations with random weights from a seed. Each model is quantized as its inputs arrive and calibrated, called as its own
documentation calls it, and then with another number of samples and tokens. The page of the documentation is written from the results.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import fxq
from benchmarks.alone import run_alone
from benchmarks.architectures import import_models, sqnr, warm_batch_norms
from benchmarks.dynamic import by_torch_ao
from benchmarks.results import replace_between_marks, without_folders, write_json
from fxq.graph.reasons import Why
from fxq.report import Kind, Report
from fxq.report.wording import format_share

Inputs = Mapping[str, Tensor | bool]

_WORDS, _SIZE = 100, 64
_WARMING_BATCHES = 30
_TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": _WORDS}
_IMAGE = {**_TEXT, "image_size": _SIZE, "patch_size": 16}
_IMAGE.pop("vocab_size")
_ENCODER_DECODER = {
    "vocab_size": _WORDS, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128,
}  # fmt: skip
_T5 = {"vocab_size": _WORDS, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
_GPT2 = {"vocab_size": _WORDS, "n_embd": 64, "n_layer": 2, "n_head": 4}
_GROUPED = {**_TEXT, "num_key_value_heads": 2}


def words(samples: int, tokens: int) -> Inputs:
    """i64 [samples, tokens]"""
    return {"input_ids": torch.randint(3, _WORDS - 5, (samples, tokens))}


def words_alone(samples: int, tokens: int) -> Inputs:
    """Without the cache that a decoder would keep for the next token."""
    return {**words(samples, tokens), "use_cache": False}


def masked_words(samples: int, tokens: int) -> Inputs:
    """Words whose last quarter is padding."""
    mask = torch.ones(samples, tokens, dtype=torch.int64)
    mask[:, -tokens // 4 :] = 0
    return {**words(samples, tokens), "attention_mask": mask}


def two_sentences(samples: int, tokens: int) -> Inputs:
    """What is read, and what has been written so far."""
    return {**words_alone(samples, tokens), "decoder_input_ids": words(samples, 5)["input_ids"]}


def images(samples: int, _: int) -> Inputs:
    """f32 [samples, 3, 64, 64], standard normal."""
    return {"pixel_values": torch.randn(samples, 3, _SIZE, _SIZE)}


def sound(samples: int, tokens: int) -> Inputs:
    """f32 [samples, 250·tokens]"""
    return {"input_values": torch.randn(samples, 250 * tokens)}


def spectra(samples: int, _: int) -> Inputs:
    """f32 [samples, 80, 100]"""
    return {"input_features": torch.randn(samples, 80, 100)}


@dataclass(frozen=True)
class Entry:
    """An architecture.

    Attributes:
        name: of its class.
        config: what differs from the defaults of its configuration.
        inputs: (samples, tokens) → keyword inputs.
        part: the submodule that is measured; "" for all of it.
        note: what is particular about the inputs.
    """

    name: str
    config: Mapping[str, Any]
    inputs: Callable[[int, int], Inputs] = words
    part: str = ""
    note: str = ""

    def __str__(self) -> str:
        return "".join([self.name, f".{self.part}" if self.part else "", f", {self.note}" if self.note else ""])


_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_STAGES = {"hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 1, 1]}

ENTRIES = (
    Entry("BertModel", _TEXT),
    Entry("BertModel", _TEXT, masked_words, note="padded"),
    Entry("BertForSequenceClassification", _TEXT),
    Entry("RobertaModel", _TEXT),
    Entry("DistilBertModel", {"vocab_size": _WORDS, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}),
    Entry("AlbertModel", {**_TEXT, "embedding_size": 32}),
    Entry("ElectraModel", {**_TEXT, "embedding_size": 32}),
    Entry("MPNetModel", _TEXT),
    Entry("DebertaV2Model", _TEXT),
    Entry("ModernBertModel", {**_TEXT, **_SPECIAL, "cls_token_id": 1, "sep_token_id": 2}),
    Entry("GPT2LMHeadModel", _GPT2, words_alone),
    Entry("GPT2LMHeadModel", _GPT2, note="with a cache"),
    Entry("OPTModel", {**_TEXT, "ffn_dim": 128, "word_embed_proj_dim": 64}, words_alone),
    Entry("LlamaForCausalLM", _GROUPED, words_alone),
    Entry("Qwen2ForCausalLM", _GROUPED, words_alone),
    Entry("MistralModel", _GROUPED, words_alone),
    Entry("T5EncoderModel", _T5),
    Entry("T5Model", _T5, two_sentences),
    Entry("BartModel", _ENCODER_DECODER, words_alone),
    Entry("CLIPTextModel", {**_TEXT, **_SPECIAL}),
    Entry("WhisperModel", {**_ENCODER_DECODER, **_SPECIAL, "max_source_positions": 50, "decoder_start_token_id": 1}, spectra, "encoder"),
    Entry("Wav2Vec2Model", {**_TEXT, "conv_dim": [32] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}, sound),
    Entry("ViTModel", _IMAGE, images),
    Entry("DeiTModel", _IMAGE, images),
    Entry("Dinov2Model", _IMAGE, images),
    Entry("CLIPVisionModel", _IMAGE, images),
    Entry("SiglipVisionModel", _IMAGE, images),
    Entry("YolosModel", {**_IMAGE, "image_size": [_SIZE, _SIZE], "num_detection_tokens": 4}, images),
    Entry("SwinModel", {"image_size": _SIZE, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}, images),
    Entry("SegformerModel", {**_STAGES, "num_attention_heads": [1, 2, 2, 4]}, images),
    Entry("LevitModel", {"image_size": _SIZE, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1]}, images),
    Entry("MobileViTModel", {"image_size": _SIZE, "hidden_sizes": [32, 48, 64], "neck_hidden_sizes": [8, 16, 16, 32, 32, 48, 64]}, images),
    Entry("PoolFormerModel", _STAGES, images),
    Entry("ConvNextModel", {"hidden_sizes": [16, 32], "depths": [1, 2], "num_stages": 2}, images),
    Entry("ConvNextV2Model", {"hidden_sizes": [16, 32], "depths": [1, 2], "num_stages": 2}, images),
    Entry("ResNetModel", {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2], "layer_type": "basic"}, images),
    Entry("RegNetModel", {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2], "groups_width": 8}, images),
    Entry("MobileNetV2Model", {"depth_multiplier": 0.25}, images),
)


def build(entry: Entry, seed: int = 0) -> nn.Module:
    """In eval mode; convolutions and linear layers have torch's initial weights, batch norms have seen batches like the inputs."""
    import_models()  # transformers imports torchvision
    import transformers

    transformers.logging.set_verbosity_error()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind = getattr(transformers, entry.name)
        model: nn.Module = kind(kind.config_class(**entry.config))
        model = model.get_submodule(entry.part)
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                module.reset_parameters()
        return warm_batch_norms(model, lambda: model(**entry.inputs(4, 16)), _WARMING_BATCHES)


@dataclass(frozen=True)
class Outcome:
    """What became of a model under one QConfig.

    Attributes:
        sqnr: dB against float32, over all float outputs; None where it failed.
        macs_share_int8: from 0 to 1.
        islands: modules that stay Python, and why.
        other_size: dB with other inputs than those of the example, or why they are refused.
        seconds: prepare_fx and convert_fx.
        error: what it failed with.
    """

    sqnr: float | None = None
    macs_share_int8: float = 0.0
    islands: tuple[str, ...] = ()
    other_size: str = ""
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    name: str
    dynamic: Outcome
    static: Outcome
    torch_ao: float | None


def measure(entry: Entry) -> Result:
    """Both ways of quantizing, and torch.ao's quantize_dynamic."""
    torch.manual_seed(1)
    model, inputs, others = build(entry), entry.inputs(2, 16), entry.inputs(3, 21)
    dynamic = fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig)
    outcomes = [_outcome(model, mapping, inputs, others) for mapping in (dynamic, fxq.get_default_qconfig_mapping("x86"))]
    has_linears = any(isinstance(module, nn.Linear) for module in model.modules())
    peer = sqnr(_floats(model, inputs), _floats(by_torch_ao(model), inputs)) if has_linears else None
    return Result(str(entry), *outcomes, peer)


def _outcome(model: nn.Module, mapping: fxq.QConfigMapping, inputs: Inputs, others: Inputs) -> Outcome:
    start = time.process_time()
    try:
        prepared = fxq.prepare_fx(model, mapping, inputs)
        seconds = time.process_time() - start
        fxq.calibrate(prepared, [inputs], progress=False)
        start = time.process_time()
        converted = fxq.convert_fx(prepared)
        seconds += time.process_time() - start
        found = sqnr(_floats(model, inputs), _floats(converted, inputs))
    except fxq.FxqError as error:
        return Outcome(error=without_folders(f"{error.where}: {error.found}"))
    report = fxq.report(converted)
    return Outcome(found, report.totals.macs_share_int8, tuple(_islands(report)), _with_others(model, converted, others), seconds)


def _with_others(model: nn.Module, converted: nn.Module, others: Inputs) -> str:
    exact = _floats(model, others)
    try:
        return f"{sqnr(exact, _floats(converted, others)):.1f}"
    except fxq.DataError as error:
        return f"refused: {without_folders(error.where)}"


def _islands(report: Report) -> Iterator[str]:
    for row in report.rows:
        if row.kind is Kind.FLOAT and row.reason is not None and row.reason.why is Why.UNTRACEABLE:
            yield f"{row.module or 'the model'}: {without_folders(row.reason.detail)}"


@torch.no_grad()
def _floats(model: nn.Module, inputs: Inputs) -> Tensor:
    """All float values of the outputs, one after the other."""
    found = model(**inputs)
    leaves = tree_leaves(dict(found) if isinstance(found, Mapping) else found)
    return torch.cat([cast(Tensor, leaf).flatten() for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()])


# --- page -------------------------------------------------------------------------------------------------------------------

_COLUMNS = ("model", "dynamic: in int8", "dB", "torch.ao dB", "calibrated: in int8", "dB", "other sizes", "s")


def table(results: Sequence[Result]) -> Iterator[str]:
    """Markdown."""
    yield from (f"| {' | '.join(_COLUMNS)} |", f"|---|{'---:|' * 5}---|---:|")
    for result in results:
        yield f"| {' | '.join(_cells(result))} |"
    yield ""
    for result in results:
        yield from (f"- {result.name}: {text}" for text in dict.fromkeys([*_notes(result.dynamic), *_notes(result.static)]))


def _cells(result: Result) -> Iterator[str]:
    dynamic, static = result.dynamic, result.static
    yield from (result.name, format_share(dynamic.macs_share_int8), _decibels(dynamic.sqnr))
    yield "–" if result.torch_ao is None else f"{result.torch_ao:.1f}"
    yield from (format_share(static.macs_share_int8), _decibels(static.sqnr))
    yield "refused" if static.other_size.startswith("refused") else f"{static.other_size} dB"
    yield f"{dynamic.seconds + static.seconds:.1f}"


def _decibels(found: float | None) -> str:
    return "fails" if found is None else f"{found:.1f}"


def _notes(outcome: Outcome) -> Iterator[str]:
    if outcome.islands:
        others = f", and {len(outcome.islands) - 1} more" if len(outcome.islands) > 1 else ""
        yield f"stays Python: {outcome.islands[0]}{others}"
    if outcome.other_size.startswith("refused"):
        yield outcome.other_size
    if outcome.error:
        yield outcome.error


def main() -> None:
    """Measures each architecture in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="classes; all, where none is given")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    parser.add_argument("--page", metavar="FILE", help="write the page from the results")
    given = parser.parse_args()
    results = []
    for entry in ENTRIES:
        if not given.names or entry.name in given.names:
            results.append(run_alone(measure, entry))
            Console().print(" | ".join([*_cells(results[-1]), *_notes(results[-1].dynamic)]), highlight=False, soft_wrap=True)
    write_json(given.json, [asdict(result) for result in results])
    if given.page is not None:
        replace_between_marks(given.page, "benchmarks.hugging_face", list(table(results)))


if __name__ == "__main__":
    main()
