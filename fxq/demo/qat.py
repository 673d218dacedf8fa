"""`fxq qat-demo`: one network in float32, quantized by calibration, and quantized by training, with 8 and with 4 bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from fxq.api import convert_fx, prepare_qat_fx, quantize
from fxq.demo.compare import CALIBRATION_BATCH
from fxq.demo.digits import Digits
from fxq.demo.evaluate import accuracy
from fxq.demo.models import MobileNetDigits
from fxq.demo.noisy import Noise, load_noisy_digits
from fxq.demo.train import Recipe, fine_tune, train
from fxq.graph.qtypes import WEIGHT_PER_CHANNEL
from fxq.observers import MinMaxObserver, PerChannelMinMaxObserver, default_weight_observer
from fxq.qat import QATSchedule, get_lsq_qconfig
from fxq.qconfig_mapping import QConfig, QConfigMapping, get_default_qat_qconfig, get_default_qconfig

_FOUR_BITS = PerChannelMinMaxObserver.with_args(spec=replace(WEIGHT_PER_CHANNEL, qmin=-7, qmax=7))


@dataclass(frozen=True)
class QATRecipe:
    """How long the demo trains.

    Attributes:
        float_epochs: of the float network.
        epochs: of training with rounding, after that.
        noise: what makes the digits hard; its seed is `seed`.
        seed: of everything.
    """

    float_epochs: int = 10
    epochs: int = 4
    noise: Noise = field(default_factory=Noise)
    seed: int = 0


@dataclass(frozen=True)
class Way:
    """A way to quantize. Those that train are with `prepare_qat_fx`.

    Attributes:
        peak_lr: of the fine-tuning.
    """

    name: str
    qconfig: QConfig
    trains: bool = False
    peak_lr: float = 3e-4


WAYS = (
    Way("calibrated, per tensor, min/max", QConfig(MinMaxObserver, default_weight_observer)),
    Way("calibrated, per channel, histogram", get_default_qconfig("x86")),
    Way("trained, per channel", get_default_qat_qconfig("x86"), trains=True),
    Way("calibrated, weights of 4 bits", QConfig(get_default_qconfig("x86").activation, _FOUR_BITS)),
    Way("trained with learned scales, weights of 4 bits", get_lsq_qconfig("x86", 4), trains=True, peak_lr=1e-3),
)


@dataclass(frozen=True)
class Reached:
    """Accuracy on the test images, in percent."""

    name: str
    accuracy: float


def run_qat_demo(console: Console, recipe: QATRecipe | None = None) -> tuple[Reached, ...]:
    """Trains the float network, quantizes it in all WAYS, and prints a table. Some minutes, nearly all of them training.

    Raises:
        FxqError: scikit-learn is not installed.
    """
    recipe = recipe or QATRecipe()
    digits = load_noisy_digits(replace(recipe.noise, seed=recipe.seed))
    console.print(f"training MobileNetDigits on {len(digits.train):,} noisy images of digits", highlight=False)
    bars = console if console.is_terminal else None
    trained = train(MobileNetDigits, digits, Recipe(epochs=recipe.float_epochs, seed=recipe.seed), bars)
    found = [Reached("float32", trained.accuracy)]
    for reached in compare_ways(trained.model, digits, recipe):
        console.print(f"{reached.name}: {reached.accuracy:.2f} %", highlight=False)
        found.append(reached)
    console.print(qat_table(found))
    return tuple(found)


def compare_ways(model: nn.Module, digits: Digits, recipe: QATRecipe) -> Iterator[Reached]:
    """What the int8 model reaches in each of WAYS. The model is left as it is."""
    for way in WAYS:
        mapping = QConfigMapping().set_global(way.qconfig)
        int8 = _trained(model, digits, way, recipe) if way.trains else _calibrated(model, digits, mapping)
        yield Reached(way.name, accuracy(int8, digits.test))


def _calibrated(model: nn.Module, digits: Digits, mapping: QConfigMapping) -> nn.Module:
    batches = [batch.images for batch in digits.calibration.batches(CALIBRATION_BATCH)]
    return quantize(model, batches, qconfig_mapping=mapping, progress=False)


def _trained(model: nn.Module, digits: Digits, way: Way, recipe: QATRecipe) -> nn.Module:
    was_training = model.training
    prepared = prepare_qat_fx(model.train(), QConfigMapping().set_global(way.qconfig), (digits.train.images[:2],))
    model.train(was_training)
    # ranges settle, and the last epoch sees what is deployed
    schedule = QATSchedule(freeze_observers=max(recipe.epochs - 1, 1), freeze_bn=max(recipe.epochs - 1, 1))
    fine_tune(prepared, digits.train, Recipe(recipe.epochs, peak_lr=way.peak_lr, weight_decay=0.0, seed=recipe.seed), schedule)
    return convert_fx(prepared)


def qat_table(found: list[Reached]) -> Table:
    """A row for each way; the first one is float32."""
    table = Table("", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("accuracy\n%", "change\npoints"):
        table.add_column(heading, justify="right", no_wrap=True)
    for reached in found:
        change = reached.accuracy - found[0].accuracy
        table.add_row(reached.name, f"{reached.accuracy:.2f}", "" if reached is found[0] else f"{change:+.2f}")
    return table
