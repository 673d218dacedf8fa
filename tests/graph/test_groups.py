"""Weights in few bits: how near they are, and how they are stored."""

from __future__ import annotations

import pytest
import torch

from fxq.errors import ConfigError
from fxq.graph.groups import group_weights
from fxq.graph.weight_format import WeightFormat


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [0, 8, 32])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("features", [1, 8, 37, 64])
def test_half_a_step_is_the_most_that_is_lost(bits: int, group: int, symmetric: bool, features: int) -> None:
    weight = torch.randn(6, features) * torch.logspace(-20, 10, 6)[:, None]
    found = group_weights(weight, WeightFormat(bits, group, symmetric))  # type: ignore[arg-type]
    assert found.scale is not None and found.scale.shape == (6, found.format.groups(features))
    steps = found.scale.repeat_interleave(group or features, 1)[:, :features]
    assert bool(((found.real() - weight).abs() <= 0.5001 * steps + weight.abs() * 2.0**-20).all())
    assert found.weight.shape[1] == (-(-features // 2) if bits == 4 else features)


@pytest.mark.parametrize("value", [0.0, 1.5, -3e-30, 1e30])
@pytest.mark.parametrize("symmetric", [False, True])
def test_equal_weights_stay_as_they_are(value: float, symmetric: bool) -> None:
    found = group_weights(torch.full((2, 16), value), WeightFormat(4, 8, symmetric)).real()
    torch.testing.assert_close(found, torch.full((2, 16), value), rtol=1e-6, atol=0.0)


def test_integers_come_back_from_halves_of_bytes() -> None:
    found = group_weights(torch.tensor([[-7.0, 7.0, 3.0]]), WeightFormat(4, 0, True))
    assert found.integers().tolist() == [[-7, 7, 3]] and found.weight.tolist() == [[0x79, 0x03]]


def test_float16_saturates() -> None:
    assert group_weights(torch.tensor([[1e6, -1e6, 0.1]]), WeightFormat(16)).weight.tolist() == [[65504.0, -65504.0, 0.0999755859375]]


def test_no_features() -> None:
    assert group_weights(torch.empty(3, 0), WeightFormat(4, 32)).real().shape == (3, 0)


@pytest.mark.parametrize(("bits", "group", "match"), [(5, 0, "bits"), (4, 12, "multiple of 8"), (4, -8, "multiple of 8")])
def test_formats_that_there_are_not(bits: int, group: int, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        WeightFormat(bits, group)  # type: ignore[arg-type]


def test_weights_that_are_not_finite() -> None:
    with pytest.raises(ConfigError, match="finite"):
        group_weights(torch.tensor([[torch.nan]]), WeightFormat(8))
