"""`fxq qat-demo`: one network in float32, quantized by calibration, and quantized by training, with 8 and with 4 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from fxq.api import convert_fx, prepare_qat_fx, quantize
from fxq.demo.compare import CALIBRATION_BATCH
from fxq.demo.digits import Digits
from fxq.demo.distorted import Distortion, load_distorted_digits
from fxq.demo.evaluate import accuracy
from fxq.demo.models import DeepMobileNetDigits
from fxq.demo.train import Recipe, Trained, fine_tune, rmsprop, train
from fxq.graph.qtypes import WEIGHT_PER_CHANNEL
from fxq.observers import MinMaxObserver, PerChannelMinMaxObserver, default_weight_observer
from fxq.qat import QATSchedule, get_lsq_qconfig
from fxq.qconfig_mapping import QConfig, QConfigMapping, get_default_qat_qconfig, get_default_qconfig
from fxq.report.latency import one_thread

_FOUR_BITS = PerChannelMinMaxObserver.with_args(spec=replace(WEIGHT_PER_CHANNEL, qmin=-7, qmax=7))


@dataclass(frozen=True)
class QATRecipe:
    """How long the demo trains.

    Attributes:
        float_epochs: of the float network.
        epochs: of training with rounding, after that.
        distortion: what makes the digits hard; its seed is `seed`.
        seed: of everything.
    """

    float_epochs: int = 4
    epochs: int = 2
    distortion: Distortion = field(default_factory=Distortion)
    seed: int = 0

    @property
    def floats(self) -> Recipe:
        """Of the float network: RMSprop and the weight decay that MobileNetV2 was trained with."""
        return Recipe(self.float_epochs, peak_lr=0.01, weight_decay=4e-5, label_smoothing=0.0, seed=self.seed, optimizer=rmsprop)

    def tuning(self, peak_lr: float) -> Recipe:
        """Of training on from the float network."""
        return Recipe(self.epochs, peak_lr=peak_lr, weight_decay=0.0, label_smoothing=0.0, seed=self.seed)

    @property
    def frozen_from(self) -> int:
        """The epoch from which ranges and batch norms stay: the last one sees what is deployed."""
        return max(self.epochs - 1, 1)


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
    with one_thread():  # more gain little on such small networks, and give other weights
        digits = load_distorted_digits(replace(recipe.distortion, seed=recipe.seed))
        trained = train_float(digits, recipe, console)
        found = [Reached("float32", trained.accuracy)]
        for reached in compare_ways(trained.model, digits, recipe):
            console.print(f"{reached.name}: {reached.accuracy:.2f} %", highlight=False)
            found.append(reached)
    console.print(qat_table(found))
    return tuple(found)


def train_float(digits: Digits, recipe: QATRecipe, console: Console) -> Trained:
    """The float network, trained; says so on the console."""
    console.print(f"training {DeepMobileNetDigits.__name__} on {len(digits.train):,} distorted images of digits", highlight=False)
    return train(DeepMobileNetDigits, digits, recipe.floats, console if console.is_terminal else None)


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
    schedule = QATSchedule(freeze_observers=recipe.frozen_from, freeze_bn=recipe.frozen_from)
    fine_tune(prepared, digits.train, recipe.tuning(way.peak_lr), schedule.apply)
    return convert_fx(prepared)


def qat_table(found: Sequence[Reached]) -> Table:
    """A row for each way; the first one is float32."""
    table = Table("", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("accuracy\n%", "change\npoints"):
        table.add_column(heading, justify="right", no_wrap=True)
    for reached in found:
        change = reached.accuracy - found[0].accuracy
        table.add_row(reached.name, f"{reached.accuracy:.2f}", "" if reached is found[0] else f"{change:+.2f}")
    return table
