"""`python -m benchmarks.train_accuracy`: the table of `fxq qat-demo`, with torch.ao's int8 models beside it, all from one float network.

The float network trained on without rounding is in it, too: what a trained int8 model gains over the first row is not all due to it.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from rich.console import Console
from torch import nn

from benchmarks.engines import convert_torch_ao
from benchmarks.results import write_json
from fxq.demo.compare import CALIBRATION_BATCH
from fxq.demo.digits import Digits
from fxq.demo.distorted import load_distorted_digits
from fxq.demo.evaluate import accuracy
from fxq.demo.qat import QATRecipe, Reached, Way, compare_ways, qat_table, train_float
from fxq.demo.train import fine_tune
from fxq.report.latency import one_thread

_ENGINE = "x86"


@dataclass(frozen=True)
class AoWay:
    """A way to quantize with torch.ao, as a Way of the demo is with fxq."""

    name: str
    mapping: Any
    trains: bool = False


def ao_ways() -> tuple[AoWay, ...]:
    """torch.ao's defaults for the ways of the demo with 8 bits, on its x86 engine."""
    from torch.ao import quantization as ao

    return (
        AoWay("torch.ao, calibrated, per tensor, min/max", ao.QConfigMapping().set_global(ao.default_qconfig)),
        AoWay("torch.ao, calibrated, per channel, histogram", ao.get_default_qconfig_mapping(_ENGINE)),
        AoWay("torch.ao, trained, per channel", ao.get_default_qat_qconfig_mapping(_ENGINE), trains=True),
    )


def by_torch_ao(model: nn.Module, digits: Digits, recipe: QATRecipe) -> Iterator[Reached]:
    """What torch.ao's int8 model reaches in each of ao_ways, trained by the recipe of the demo."""
    torch.backends.quantized.engine = _ENGINE
    for way in ao_ways():
        prepared = _prepared(model, digits, way)
        if way.trains:
            fine_tune(prepared, digits.train, recipe.tuning(Way.peak_lr), partial(_freeze, recipe.frozen_from))
        else:
            _calibrate(prepared, digits)
        yield Reached(way.name, accuracy(convert_torch_ao(prepared), digits.test))


@torch.no_grad()
def _calibrate(prepared: nn.Module, digits: Digits) -> None:
    for batch in digits.calibration.batches(CALIBRATION_BATCH):
        prepared(batch.images)


def _freeze(start: int, prepared: nn.Module, epoch: int) -> None:
    """What QATSchedule does to a model of fxq, from the epoch `start` on."""
    from torch.ao.nn.intrinsic.qat import freeze_bn_stats
    from torch.ao.quantization import disable_observer

    if epoch >= start:
        prepared.apply(disable_observer).apply(freeze_bn_stats)


def _prepared(model: nn.Module, digits: Digits, way: AoWay) -> nn.Module:
    from torch.ao.quantization import quantize_fx

    prepare = quantize_fx.prepare_qat_fx if way.trains else quantize_fx.prepare_fx
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = prepare(copy.deepcopy(model).train(way.trains), way.mapping, (digits.train.images[:2],))
    return made


def trained_on(model: nn.Module, digits: Digits, recipe: QATRecipe) -> Reached:
    """The float network, trained for as long as those with rounding."""
    longer = copy.deepcopy(model)
    fine_tune(longer, digits.train, recipe.tuning(Way.peak_lr), lambda _model, _epoch: None)
    return Reached("float32, trained on", accuracy(longer, digits.test))


def measure(recipe: QATRecipe, console: Console) -> list[Reached]:
    """All rows of one seed."""
    digits = load_distorted_digits(replace(recipe.distortion, seed=recipe.seed))
    trained = train_float(digits, recipe, console)
    found = [Reached("float32", trained.accuracy), trained_on(trained.model, digits, recipe)]
    return [*found, *compare_ways(trained.model, digits, recipe), *by_torch_ao(trained.model, digits, recipe)]


def main() -> None:
    """Trains, quantizes and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float-epochs", type=int, default=QATRecipe.float_epochs)
    parser.add_argument("--epochs", type=int, default=QATRecipe.epochs)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a table for each")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    console, rows = Console(), []
    for seed in arguments.seeds:
        with one_thread():
            found = measure(QATRecipe(arguments.float_epochs, arguments.epochs, seed=seed), console)
        console.print(f"seed {seed}", qat_table(found))
        rows += [{"seed": seed, **asdict(reached)} for reached in found]
    write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
