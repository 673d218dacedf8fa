from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console
from torch import nn

from fxq.demo.digits import Digits, load_digits
from fxq.demo.models import MobileNetDigits, ResNetDigits
from fxq.demo.train import OptimizerOf, Recipe, adamw, fine_tune, rmsprop, shifted, train


@pytest.fixture(scope="module")
def few() -> Digits:
    digits = load_digits()
    first = torch.arange(192)
    return Digits(digits.train.take(first), digits.calibration, digits.test.take(first))


@pytest.mark.parametrize("network", [ResNetDigits, MobileNetDigits])
def test_loss_falls(network: type[nn.Module], few: Digits) -> None:
    trained = train(network, few, Recipe(epochs=4, batch_size=16))
    assert len(trained.losses) == 4
    assert trained.losses[-1] < 0.75 * trained.losses[0]
    assert trained.accuracy > 25.0
    assert not trained.model.training


@pytest.mark.parametrize("network", [ResNetDigits, MobileNetDigits])
def test_seed_decides_the_weights(network: type[nn.Module], few: Digits) -> None:
    first, second, other = (train(network, few, Recipe(epochs=1, seed=seed)) for seed in (3, 3, 4))
    assert first.losses == second.losses != other.losses
    for name, weights in first.model.state_dict().items():
        assert torch.equal(weights, second.model.state_dict()[name]), name


def test_random_state_stays(few: Digits) -> None:
    before = torch.get_rng_state()
    train(ResNetDigits, few, Recipe(epochs=1))
    assert torch.equal(before, torch.get_rng_state())


def test_progress_is_shown_on_the_console_given(few: Digits) -> None:
    stream = io.StringIO()
    trained = train(ResNetDigits, few, Recipe(epochs=1), Console(file=stream, width=100))
    assert "ResNetDigits" in stream.getvalue()
    assert f"loss {trained.losses[0]:.3f}" in stream.getvalue()


def test_every_shift_happens_and_nothing_else() -> None:
    image = torch.arange(1.0, 65.0).reshape(1, 1, 8, 8)
    padded = nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    nine = {tuple(padded[0, 0, row : row + 8, column : column + 8].flatten().tolist()) for row in range(3) for column in range(3)}
    torch.manual_seed(0)
    moved = shifted(image.expand(300, 1, 8, 8))
    assert moved.shape == (300, 1, 8, 8)
    assert {tuple(one.flatten().tolist()) for one in moved} == nine


def test_fine_tuning_calls_before_each_epoch_and_ends_in_eval_mode(few: Digits) -> None:
    model, called = ResNetDigits(), []
    first = model.classifier.weight.clone()
    fine_tune(model, few.train, Recipe(epochs=3), lambda found, epoch: called.append((found is model, epoch, found.training)))
    assert called == [(True, 0, True), (True, 1, True), (True, 2, True)]
    assert not model.training
    assert not torch.equal(model.classifier.weight, first)


@pytest.mark.parametrize("optimizer", [adamw, rmsprop])
def test_every_optimizer_trains(optimizer: OptimizerOf, few: Digits) -> None:
    trained = train(ResNetDigits, few, Recipe(epochs=3, batch_size=16, peak_lr=3e-3, weight_decay=1e-4, optimizer=optimizer))
    assert trained.losses[-1] < 0.75 * trained.losses[0]
