"""Checkpoints: the float model's keys, copies and files in the middle of training, and resuming bit for bit."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

import fxq
from fxq.errors import StageError
from fxq.qat import QATSchedule, disable_fake_quant, float_state_dict
from fxq.qat.learned import get_lsq_qconfig
from tests.qat.cases import X86, Residual, batches, fit, prepared, small, step

MAPPINGS = {"moving average": X86, "lsq": fxq.QConfigMapping().set_global(get_lsq_qconfig())}


def _saved(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_keys_and_order_are_the_float_models() -> None:
    for model in (small(), Residual()):
        qat = prepared(model)
        assert list(float_state_dict(qat)) == list(model.state_dict())
        assert [name for name, _ in qat.named_parameters()] == [name for name, _ in model.named_parameters()]


def test_trained_weights_go_back_to_the_float_model() -> None:
    model = Residual()
    qat = prepared(model)
    fit(qat, batches(5))
    restored = Residual()
    restored.load_state_dict(float_state_dict(qat))
    assert torch.equal(restored.bn1.running_mean, dict(qat.named_buffers())["bn1.running_mean"])  # type: ignore[arg-type]
    qat.eval().apply(disable_fake_quant)
    x = batches(1)[0][0]
    torch.testing.assert_close(restored.eval()(x), qat(x), rtol=1e-4, atol=1e-5)


def test_float_checkpoint_and_optimizer_go_in() -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    fit(model.train(), batches(3), optimizer)
    qat = prepared(small(seed=7))
    unexpected = qat.load_state_dict(model.state_dict(), strict=False).unexpected_keys
    assert unexpected == []
    assert torch.equal(next(qat.parameters()), next(model.parameters()))
    resumed = torch.optim.SGD(qat.parameters(), lr=0.05, momentum=0.9)
    resumed.load_state_dict(optimizer.state_dict())
    first = next(iter(qat.parameters()))
    assert torch.equal(resumed.state[first]["momentum_buffer"], optimizer.state[next(model.parameters())]["momentum_buffer"])


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, _saved, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "save", "pickle"]
)
@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=MAPPINGS)
def test_copy_in_the_middle_goes_on_alike(duplicate: Callable[[Any], Any], mapping: fxq.QConfigMapping) -> None:
    qat = prepared(small(), mapping)
    fit(qat, batches(4))
    twin = duplicate(qat)
    assert fit(twin, batches(4)) == fit(qat, batches(4))
    x = batches(1)[0][0]
    assert torch.equal(fxq.convert_fx(twin.eval())(x), fxq.convert_fx(qat.eval())(x))


@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=MAPPINGS)
def test_resume_is_bit_for_bit(mapping: fxq.QConfigMapping) -> None:
    schedule, data = QATSchedule(start_fake_quant=2, freeze_observers=9, freeze_bn=7), batches(12)

    def run(model: torch.nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> list[float]:
        losses = []
        for now in range(first, last):
            schedule.apply(model, now)
            losses.append(step(model, data[now], optimizer))
        return losses

    whole = prepared(small(), mapping)
    optimizer = torch.optim.Adam(whole.parameters(), lr=1e-2)
    run(whole, optimizer, 0, 6)
    checkpoint = _saved({"model": whole.state_dict(), "optimizer": optimizer.state_dict()})
    losses = run(whole, optimizer, 6, 12)
    resumed = prepared(small(seed=3), mapping)
    resumed.load_state_dict(checkpoint["model"])
    again = torch.optim.Adam(resumed.parameters(), lr=1e-2)
    again.load_state_dict(checkpoint["optimizer"])
    assert run(resumed, again, 6, 12) == losses
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    x = batches(1)[0][0]
    assert torch.equal(fxq.convert_fx(resumed.eval())(x), fxq.convert_fx(whole.eval())(x))


def test_other_models_have_no_float_state() -> None:
    with pytest.raises(StageError, match="prepare_qat_fx"):
        float_state_dict(small())
