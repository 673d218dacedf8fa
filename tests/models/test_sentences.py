"""A trained transformer of Hugging Face: what its embeddings of real sentences lose."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

import fxq
from fxq.report.kinds import Kind
from tests.models.sentences import Sentences, load, sentences

TEXTS, CALIBRATION = slice(0, 200), slice(200, 300)


@pytest.fixture(scope="module")
def minilm() -> Sentences:
    return load()


@pytest.fixture(scope="module")
def smoothed(minilm: Sentences) -> nn.Module:
    return fxq.smooth(minilm.model, minilm.batches(sentences()[CALIBRATION]))


@pytest.fixture(scope="module")
def exact(minilm: Sentences) -> Tensor:
    return minilm.embed(minilm.model, sentences()[TEXTS])


def cosine(found: Tensor, exact: Tensor) -> float:
    return float((found * exact).sum(1).mean())


def kept_order(found: Tensor, exact: Tensor) -> float:
    """Share of (sentence, one, another) where the one is nearer than the other in both."""
    ours, theirs = found @ found.T, exact @ exact.T
    return float(((ours[:, :, None] > ours[:, None]) == (theirs[:, :, None] > theirs[:, None])).float().mean())


def kept_nearest(found: Tensor, exact: Tensor) -> float:
    """Share of sentences whose nearest neighbour is the same."""
    ours, theirs = ((each @ each.T).fill_diagonal_(-1).argmax(1) for each in (found, exact))
    return float((ours == theirs).float().mean())


def test_dynamic(minilm: Sentences, exact: Tensor) -> None:
    found = minilm.embed(fxq.quantize_dynamic(minilm.model, {nn.Linear}), sentences()[TEXTS])
    assert cosine(found, exact) >= 0.998
    assert kept_order(found, exact) >= 0.98 and kept_nearest(found, exact) >= 0.92


def test_smoothed(minilm: Sentences, smoothed: nn.Module, exact: Tensor) -> None:
    found = minilm.embed(fxq.quantize_dynamic(smoothed, {nn.Linear}), sentences()[TEXTS])
    assert cosine(found, exact) >= 0.999
    assert kept_order(found, exact) >= 0.985 and kept_nearest(found, exact) >= 0.95


def test_calibrated_through_a_graph(minilm: Sentences, exact: Tensor) -> None:
    """One graph for all of BERT, of which nobody reads the pooler's result; for sentences of any length."""
    batches, qconfig = minilm.batches(sentences()[CALIBRATION]), fxq.get_default_qconfig("x86")
    mapping = fxq.QConfigMapping().set_global(qconfig).set_object_type(nn.functional.gelu, None)
    int8 = fxq.quantize(fxq.smooth(minilm.model, batches, qconfig), batches, qconfig_mapping=mapping, progress=False)
    found = minilm.embed(int8, sentences()[TEXTS])
    assert cosine(found, exact) >= 0.997
    assert kept_order(found, exact) >= 0.975 and kept_nearest(found, exact) >= 0.9
    from transformers.models.bert.modeling_bert import BertLayer

    report = fxq.report(int8)
    layers = [row for row in report.rows if row.what.startswith("Linear ")]
    assert len(layers) == 6 * 6 and {row.kind for row in layers} == {Kind.INT8}
    assert not int8.islands and not any(isinstance(module, BertLayer) for module in int8.modules())


def test_dynamic_through_a_graph(minilm: Sentences, exact: Tensor) -> None:
    texts = sentences()[TEXTS][:40]
    mapping = fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig)
    int8 = fxq.convert_fx(fxq.prepare_fx(minilm.model, mapping, minilm.batches(texts)[0]))
    assert fxq.report(int8).totals.macs_share_int8 > 0.97  # all but the products inside of attention
    found, modules = minilm.embed(int8, texts), minilm.embed(fxq.quantize_dynamic(minilm.model, {nn.Linear}), texts)
    assert cosine(found, exact[:40]) >= 0.998 and cosine(found, modules) >= 0.999
