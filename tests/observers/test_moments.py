"""MomentsObserver: mean and variance of channels, from shards in any order."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from fxq.errors import CalibrationError, ConfigError
from fxq.observers.moments import MomentsObserver


def batches(*shape: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, *shape, generator=generator) * 3 + 1 for n in (2, 5, 1)]


def fed(seen: list[Tensor], axis: int) -> MomentsObserver:
    observer = MomentsObserver(channels=4, axis=axis)
    for batch in seen:
        assert observer(batch) is batch
    return observer


@pytest.mark.parametrize(("shape", "axis"), [((4,), -1), ((7, 4), -1), ((4, 3, 5), -3), ((4, 6), -2)])
def test_moments_are_those_of_all_elements_of_a_channel(shape: tuple[int, ...], axis: int) -> None:
    seen = batches(*shape)
    moments = fed(seen, axis).moments()
    rows = torch.cat([batch.movedim(axis, 0).flatten(1) for batch in seen], 1).double()
    assert moments is not None
    torch.testing.assert_close(moments.mean, rows.mean(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moments.variance, rows.var(1, correction=0), rtol=1e-5, atol=1e-5)


def test_a_single_sample_without_a_batch_dimension() -> None:
    moments = fed([torch.arange(4.0)], -1).moments()
    assert moments is not None and moments.mean.tolist() == [0, 1, 2, 3] and not moments.variance.any()


def test_shards_in_any_order_are_one_pass() -> None:
    one, two, three = batches(4, 9)
    whole, left, right = fed([one, two, three], -2), fed([two], -2), fed([three, one], -2)
    for merged, other in ((copy.deepcopy(left), right), (copy.deepcopy(right), left)):
        merged.merge(other)
        assert all(torch.equal(value, whole.state_dict()[key]) for key, value in merged.state_dict().items())
    with pytest.raises(ConfigError, match="same class and settings"):
        left.merge(MomentsObserver(channels=4, axis=-1))


def test_a_state_dict_brings_it_back() -> None:
    seen = fed(batches(4), -1)
    loaded = MomentsObserver(channels=4, axis=-1)
    loaded.load_state_dict(seen.state_dict())
    ours, theirs = loaded.moments(), seen.moments()
    assert ours is not None and theirs is not None and torch.equal(ours.mean, theirs.mean)


@pytest.mark.parametrize("seen", [[], [torch.empty(0, 4)], [torch.full((2, 4), 1e30)]], ids=["nothing", "empty", "too large"])
def test_there_are_no_moments_of(seen: list[Tensor]) -> None:
    assert fed(seen, -1).moments() is None


def test_it_has_no_qparams() -> None:
    with pytest.raises(CalibrationError, match="an observer of ranges"):
        fed(batches(4), -1).qparams()
