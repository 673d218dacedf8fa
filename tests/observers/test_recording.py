from __future__ import annotations

import copy
import io

import pytest
import torch

from fxq.errors import ConfigError
from fxq.graph.qtypes import WEIGHT_PER_CHANNEL
from fxq.observers import MinMaxObserver, RecordingObserver
from fxq.observers.recording import sample


def test_small_batches_are_kept_as_they_are() -> None:
    observer = RecordingObserver()
    batches = [torch.randn(2, 3, 4), torch.randn(5)]
    for batch in batches:
        observer(batch)
    kept = observer.tensor_val
    assert [each.tolist() for each in kept] == [batch.flatten().tolist() for batch in batches]
    assert [each.tolist() for each in observer.get_tensor_value()] == [each.tolist() for each in kept]
    batches[1].zero_()
    assert observer.tensor_val[1].tolist() == kept[1].tolist()


def test_bounds_hold_and_qparams_see_everything() -> None:
    observer, minmax = RecordingObserver(kept_batches=2, kept_values=10), MinMaxObserver()
    for index in range(4):
        batch = torch.randn(7, 11) * (index + 1)
        observer(batch)
        minmax(batch)
    assert [len(each) for each in observer.tensor_val] == [10, 10] and observer.batches == 4
    assert observer.qparams() == minmax.qparams()


@pytest.mark.parametrize("count", [11, 12, 100, 97, 4096, 32 * 64 * 7 * 7])
def test_a_sample_is_distinct_in_order_and_evenly_spread(count: int) -> None:
    positions = sample(torch.arange(count, dtype=torch.float32), 10).tolist()
    assert positions == sorted(set(positions)) and len(positions) == 10
    gaps = [after - before for before, after in zip([*positions], [*positions[1:], positions[0] + count], strict=True)]
    assert max(gaps) <= 3 * count / 10 + 2


def test_a_sample_looks_at_every_row_of_a_batch() -> None:
    # columns that are all alike: a sample in step with the rows would see one of them only
    x = torch.arange(64, dtype=torch.float32).expand(1000, 64)
    kept = sample(x, 1000).long()
    assert torch.bincount(kept, minlength=64).min() >= 1000 // 64 - 6


def test_merge_appends_as_one_pass_would() -> None:
    batches = [torch.randn(30) * (index + 1) for index in range(5)]

    def shard(*part: torch.Tensor) -> RecordingObserver:
        observer = RecordingObserver(kept_batches=3, kept_values=8)
        for batch in part:
            observer(batch)
        return observer

    one, merged, other = shard(*batches), shard(*batches[:2]), shard(*batches[2:])
    merged.merge(copy.deepcopy(other))
    for key, value in one.state_dict().items():
        assert torch.equal(value, merged.state_dict()[key]), key
    other.merge(shard(*batches[:2]))
    assert other.qparams() == one.qparams() and len(other.tensor_val) == 3


def test_per_channel_and_state_dict() -> None:
    observer, fresh = RecordingObserver(WEIGHT_PER_CHANNEL), RecordingObserver(WEIGHT_PER_CHANNEL)
    observer(torch.randn(3, 4))
    saved = io.BytesIO()
    torch.save(observer.state_dict(), saved)
    saved.seek(0)
    fresh.load_state_dict(torch.load(saved))
    assert fresh.qparams() == observer.qparams()
    assert torch.equal(fresh.tensor_val[0], observer.tensor_val[0])


@pytest.mark.parametrize("arguments", [{"kept_batches": 0}, {"kept_values": 0}, {"kept_values": 2.5}])
def test_bounds_must_be_positive(arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="kept_batches and kept_values"):
        RecordingObserver(**arguments)


def test_refuses_to_merge_other_bounds() -> None:
    with pytest.raises(ConfigError, match="settings"):
        RecordingObserver(kept_values=3).merge(RecordingObserver())
