from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR, QParams, QuantSpec, choose_qparams
from fxq.observers import EntropyObserver
from fxq.observers.entropy import Threshold, divergence
from fxq.observers.l2_errors import Histogram
from tests.observers.test_l2_search import DATA, SPECS, data


def observed(*batches: Tensor, spec: QuantSpec = ACTIVATION, bins: int = 8192) -> EntropyObserver:
    observer = EntropyObserver(spec, bins=bins)
    for batch in batches:
        observer(batch)
    return observer


def brute_divergence(histogram: Histogram, bins: int, qparams: QParams) -> float:
    """The definition, one bin at a time, in Python."""
    half, width = histogram.counts.numel() // 2, 2.0 ** int(histogram.exponent)
    scale, zero_point, spec = float(qparams.scale), int(qparams.zero_point), qparams.spec
    counts = {i - half: int(count) for i, count in enumerate(histogram.counts.tolist()) if count}
    kept = {i: count for i, count in counts.items() if -bins <= i < bins}
    if not kept:
        return math.inf
    clipped = dict(kept)
    clipped[min(kept)] += sum(count for i, count in counts.items() if i < -bins)
    clipped[max(kept)] += sum(count for i, count in counts.items() if i >= bins)
    level = {i: min(max(round((i + 0.5) * width / scale) + zero_point, spec.qmin), spec.qmax) for i in kept}
    total = 0.0
    for i, count in clipped.items():
        same = [kept[j] for j in kept if level[j] == level[i]]
        p, q = count / sum(clipped.values()), sum(same) / len(same) / sum(kept.values())
        total += p * math.log(p / q)
    return total


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("name", ["gaussian", "relu", "outlier", "negative", "bimodal"])
def test_divergence_is_the_definition(name: str, spec: QuantSpec) -> None:
    histogram = observed(data(name), bins=512).histogram()
    for bins in (240, 100, 17, 1):
        end = torch.tensor(bins * 2.0 ** int(histogram.exponent))
        qparams = choose_qparams(torch.maximum(-end, histogram.low), torch.minimum(end, histogram.high), spec)
        expected = brute_divergence(histogram, bins, qparams)
        found = divergence(histogram, Threshold(bins, qparams))
        assert found == expected or abs(found - expected) < 1e-9


@pytest.mark.parametrize("spec", [ACTIVATION, WEIGHT_PER_TENSOR, QuantSpec("uint8", 0, 15)], ids=str)
@pytest.mark.parametrize("name", ["gaussian", "relu", "outlier", "negative", "bimodal"])
def test_no_threshold_is_much_better(name: str, spec: QuantSpec) -> None:
    observer = observed(data(name), spec=spec, bins=1024)
    histogram, found = observer.histogram(), observer.qparams()
    width = 2.0 ** int(histogram.exponent)
    least, at_found = math.inf, math.inf
    for bins in range(1, 513):
        end = torch.tensor(bins * width)
        qparams = choose_qparams(torch.maximum(-end, histogram.low), torch.minimum(end, histogram.high), spec)
        if float(qparams.scale) >= width:
            least = min(least, divergence(histogram, Threshold(bins, qparams)))
        if qparams == found:
            at_found = min(at_found, divergence(histogram, Threshold(bins, qparams)))
    assert at_found < math.inf
    # thin tails make the divergence jump from bin to bin, so thresholds 2 % apart don't meet the very least
    assert least <= at_found <= 1.25 * least


@pytest.mark.parametrize("name", DATA)
def test_full_range_at_the_most_and_deterministic(name: str) -> None:
    x = data(name)
    found = observed(x).qparams()
    assert found == observed(x[:1000], x[1000:]).qparams()
    assert 0 < found.scale <= choose_qparams(x.min(), x.max(), ACTIVATION).scale


@pytest.mark.parametrize(("name", "least", "most"), [("outlier", 3.0, 4.5), ("relu", 3.0, 5.0), ("laplace", 6.0, 12.0)])
def test_clips_the_tail_and_keeps_the_body(name: str, least: float, most: float) -> None:
    found = observed(data(name), spec=WEIGHT_PER_TENSOR).qparams()
    assert least <= float(found.scale) * 127 <= most


def test_zeros_do_not_count() -> None:
    x = data("relu_outlier")
    assert observed(x, torch.zeros(10**6)).qparams() == observed(x).qparams()
    assert observed(torch.zeros(5)).qparams() == choose_qparams(torch.tensor(0.0), torch.tensor(0.0), ACTIVATION)


@pytest.mark.parametrize("value", [3.3, -2.0, 1e-30, 3e38])
def test_a_constant_keeps_its_range(value: float) -> None:
    x = torch.full((100,), value)
    assert observed(x).qparams() == choose_qparams(x.min(), x.max(), ACTIVATION)


def test_fewer_bins_than_levels_keep_the_full_range() -> None:
    x = data("relu_outlier")
    assert observed(x, bins=256).qparams() == choose_qparams(x.min(), x.max(), ACTIVATION)


def test_merged_shards_equal_one_pass() -> None:
    x = data("laplace")
    one, merged = observed(x), observed(x[20_000:])
    merged.merge(observed(x[:20_000]))
    assert merged.qparams() == one.qparams()


def test_refuses_per_channel() -> None:
    with pytest.raises(ConfigError, match="per-tensor"):
        EntropyObserver(WEIGHT_PER_CHANNEL)
