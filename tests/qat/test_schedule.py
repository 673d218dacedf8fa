from __future__ import annotations

from types import SimpleNamespace

import pytest

from fxq.errors import ConfigError
from fxq.qat import FakeQuantize, QATCallback, QATSchedule
from fxq.qat.trained import TrainedNorm
from tests.qat.cases import prepared, small


def _switches(model: object) -> tuple[set[bool], set[bool], set[bool]]:
    """(rounds, observes, frozen) of all modules."""
    modules = list(model.modules())  # type: ignore[attr-defined]
    fake = [each for each in modules if isinstance(each, FakeQuantize)]
    norms = [each for each in modules if isinstance(each, TrainedNorm)]
    return {each.fake_quant_enabled for each in fake}, {each.enabled for each in fake}, {each.frozen for each in norms}


def test_switches_at_their_times() -> None:
    qat, schedule = prepared(small()), QATSchedule(start_fake_quant=2, freeze_observers=5, freeze_bn=4)
    found = []
    for now in range(6):
        schedule.apply(qat, now)
        found.append(tuple(next(iter(each)) for each in _switches(qat)))
        assert all(len(each) == 1 for each in _switches(qat))
    late = [(True, True, False), (True, True, False), (True, True, True), (True, False, True)]
    assert found == [(False, True, False), (False, True, False), *late]


def test_frozen_batch_norms_stay_frozen_without_freeze_bn() -> None:
    model = small().train()
    model[1].eval()
    qat = prepared_as_it_is(model)
    QATSchedule().apply(qat, 100)
    assert _switches(qat)[2] == {True, False}


def prepared_as_it_is(model: object) -> object:
    import torch

    import fxq
    from tests.qat.cases import X86

    return fxq.prepare_qat_fx(model, X86, (torch.randn(2, 3, 8, 8),))  # type: ignore[arg-type]


@pytest.mark.parametrize(("unit", "expected"), [("step", [False, True]), ("epoch", [True, True])])
def test_callback(unit: str, expected: list[bool]) -> None:
    qat, callback = prepared(small()), QATCallback(QATSchedule(start_fake_quant=3), unit)  # type: ignore[arg-type]
    found = []
    for number in (2, 3):
        trainer = SimpleNamespace(current_epoch=number + 1, global_step=number)
        callback.on_train_epoch_start(trainer, qat)
        callback.on_train_batch_start(trainer, qat, None, 0)
        found.append(_switches(qat)[0] == {True})
    assert found == expected


@pytest.mark.parametrize(
    ("times", "field"),
    [
        ({"start_fake_quant": 10, "freeze_observers": 5}, "freeze_observers"),
        ({"freeze_observers": 0}, "freeze_observers"),
        ({"start_fake_quant": 10, "freeze_bn": 5}, "freeze_bn"),
        ({"start_fake_quant": -1}, "start_fake_quant"),
    ],
)
def test_schedule_that_freezes_before_it_starts(times: dict[str, int], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        QATSchedule(**times)


def test_schedule_of_a_model_that_is_not_prepared() -> None:
    with pytest.raises(ConfigError, match=r"(?s)fake-quantize modules.*Sequential.*prepare_qat_fx"):
        QATSchedule().apply(small(), 0)


def test_unknown_unit() -> None:
    with pytest.raises(ConfigError, match="unit"):
        QATCallback(QATSchedule(), "minute")  # type: ignore[arg-type]
