from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxq.errors import ConfigError
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR, choose_qparams
from fxq.observers import MinMaxObserver, PercentileObserver
from fxq.observers.percentile import quantile_position
from tests.observers.test_l2_search import DATA, data


def observed(*batches: torch.Tensor, **arguments: object) -> PercentileObserver:
    observer = PercentileObserver(**arguments)  # type: ignore[arg-type]
    for batch in batches:
        observer(batch)
    return observer


def ends(observer: PercentileObserver) -> tuple[float, float]:
    """The real values of qmin and qmax."""
    qparams = observer.qparams()
    levels = torch.tensor([observer.spec.qmin, observer.spec.qmax]) - qparams.zero_point
    low, high = (levels * qparams.scale).tolist()
    return low, high


def test_quantile_by_hand() -> None:
    counts = torch.tensor([0, 4, 0, 6, 0])
    for share, position in ((0.2, 1.5), (0.4, 2.0), (0.7, 3.5), (1.0, 4.0)):
        assert quantile_position(counts, share) == position


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9, 99.99])
@pytest.mark.parametrize("name", DATA)
def test_affine_ends_are_within_a_bin_and_a_step_of_the_exact_percentiles(name: str, percentile: float) -> None:
    x = data(name)
    observer = observed(x, percentile=percentile)
    values = x[x != 0].double()
    low = min(float(values.quantile(1 - percentile / 100)), 0.0)
    high = max(float(values.quantile(percentile / 100)), 0.0)
    margin = 2.0 ** int(observer.exponent) + float(observer.qparams().scale)
    if percentile == 99.99:
        # the third value from each end: between two values there is a gap, and the percentile may be said to be anywhere in it
        ordered = values.sort().values
        margin += float(torch.maximum(ordered[:5].diff().max(), ordered[-5:].diff().max()))
    found = ends(observer)
    assert abs(found[0] - low) <= margin and abs(found[1] - high) <= margin


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
@pytest.mark.parametrize("name", DATA)
def test_symmetric_end_is_within_a_bin_of_the_exact_percentile(name: str, percentile: float) -> None:
    x = data(name)
    observer = observed(x, spec=WEIGHT_PER_TENSOR, percentile=percentile)
    exact = float(x[x != 0].double().abs().quantile(percentile / 100))
    assert abs(float(observer.qparams().scale) * 127 - exact) <= 1.001 * 2.0 ** int(observer.exponent)
    assert int(observer.qparams().zero_point) == 0


@pytest.mark.parametrize("spec", [ACTIVATION, WEIGHT_PER_TENSOR], ids=str)
@pytest.mark.parametrize("name", DATA)
def test_all_of_it_is_minmax(name: str, spec: object) -> None:
    x = data(name)
    minmax = MinMaxObserver(spec)  # type: ignore[arg-type]
    minmax(x)
    assert observed(x, spec=spec, percentile=100).qparams() == minmax.qparams()


def test_an_outlier_is_left_out() -> None:
    low, high = ends(observed(data("outlier")))
    assert -4.5 < low < -3.3 and 3.3 < high < 4.5


def test_zeros_do_not_count() -> None:
    x = data("gaussian")
    assert observed(x, torch.zeros(10**6)).qparams() == observed(x).qparams()
    assert observed(torch.zeros(5)).qparams() == choose_qparams(torch.tensor(0.0), torch.tensor(0.0), ACTIVATION)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=30), st.integers(1, 29))
def test_merge_has_the_bits_of_one_pass_and_no_end_is_outside(values: list[float], cut: int) -> None:
    one, left = observed(torch.tensor(values), percentile=80), observed(torch.tensor(values[cut:]), percentile=80)
    left.merge(observed(torch.tensor(values[:cut]), percentile=80))
    assert left.qparams() == one.qparams() and one.qparams().is_finite
    full = choose_qparams(torch.tensor(min(values)), torch.tensor(max(values)), ACTIVATION)
    assert one.qparams().scale <= full.scale


@pytest.mark.parametrize("percentile", [50, 100.1, -1, float("nan"), "99"])
def test_percentile_out_of_range(percentile: float) -> None:
    with pytest.raises(ConfigError, match=r"PercentileObserver\.percentile"):
        PercentileObserver(percentile=percentile)


def test_refuses_per_channel_and_merging_another_percentile() -> None:
    with pytest.raises(ConfigError, match="per-tensor"):
        PercentileObserver(WEIGHT_PER_CHANNEL)
    with pytest.raises(ConfigError, match="settings"):
        PercentileObserver(percentile=99).merge(PercentileObserver(percentile=98))
