from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.passes.garbage import without_cycle_collection


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    yield
    gc.enable()


def test_pauses_and_goes_on() -> None:
    with without_cycle_collection():
        assert not gc.isenabled()
        with without_cycle_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_goes_on_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), without_cycle_collection():
        1 / 0  # noqa: B018
    assert gc.isenabled()


def test_stays_off_where_the_user_turned_it_off() -> None:
    gc.disable()
    with without_cycle_collection():
        assert not gc.isenabled()
    assert not gc.isenabled()


class _Watched(nn.Module):
    def __init__(self, seen: list[bool]) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(4, 4), seen

    def __deepcopy__(self, memo: dict[int, object]) -> nn.Module:
        self.seen.append(gc.isenabled())
        return nn.Sequential(self.linear)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(x)
        return result


def test_prepare_and_convert_pause() -> None:
    seen: list[bool] = []
    x = torch.randn(2, 4)
    prepared = fxq.prepare_fx(nn.Sequential(_Watched(seen)).eval(), fxq.get_default_qconfig_mapping("x86"), (x,))
    prepared(x)
    prepared.watched = _Watched(seen)
    fxq.convert_fx(prepared)
    assert seen == [False, False]
    assert gc.isenabled()
