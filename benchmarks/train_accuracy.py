"""`python -m benchmarks.train_accuracy`: the table of `fxq qat-demo` with torch.ao's int8 models beside it, from one float network."""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from rich.console import Console
from torch import nn

from benchmarks.engines import convert_torch_ao
from fxq.demo.digits import Digits
from fxq.demo.evaluate import accuracy
from fxq.demo.models import MobileNetDigits
from fxq.demo.noisy import load_noisy_digits
from fxq.demo.qat import QATRecipe, Reached, compare_ways, qat_table
from fxq.demo.train import Recipe, fine_tune, train
from fxq.qat import QATSchedule

_ENGINE, _PEAK_LR = "x86", 3e-4


def by_torch_ao(model: nn.Module, digits: Digits, recipe: QATRecipe) -> Iterator[Reached]:
    """torch.ao's QConfigs for the same three ways with 8 bits, on its x86 engine."""
    from torch.ao import quantization as ao

    torch.backends.quantized.engine = _ENGINE
    ways: dict[str, Any] = {
        "torch.ao, calibrated, per tensor, min/max": ao.QConfigMapping().set_global(ao.default_qconfig),
        "torch.ao, calibrated, per channel, histogram": ao.get_default_qconfig_mapping(_ENGINE),
        "torch.ao, trained, per channel": ao.get_default_qat_qconfig_mapping(_ENGINE),
    }
    for name, mapping in ways.items():
        prepared = _prepared(model, digits, mapping, trains="trained" in name)
        if "trained" in name:
            fine_tune(prepared, digits.train, Recipe(recipe.epochs, peak_lr=_PEAK_LR, weight_decay=0.0, seed=recipe.seed), QATSchedule())
        else:
            with torch.no_grad():
                prepared(digits.calibration.images)
        yield Reached(name, accuracy(convert_torch_ao(prepared), digits.test))


def _prepared(model: nn.Module, digits: Digits, mapping: Any, trains: bool) -> nn.Module:
    from torch.ao.quantization import quantize_fx

    prepare = quantize_fx.prepare_qat_fx if trains else quantize_fx.prepare_fx
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = prepare(copy.deepcopy(model).train(trains), mapping, (digits.train.images[:2],))
    return made


def main() -> None:
    """Trains, quantizes and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float-epochs", type=int, default=QATRecipe().float_epochs)
    parser.add_argument("--epochs", type=int, default=QATRecipe().epochs)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    recipe = QATRecipe(arguments.float_epochs, arguments.epochs, seed=arguments.seed)
    digits = load_noisy_digits(recipe.noise)
    trained = train(MobileNetDigits, digits, Recipe(epochs=recipe.float_epochs, seed=recipe.seed))
    found = [Reached("float32", trained.accuracy)]
    found += [*compare_ways(trained.model, digits, recipe), *by_torch_ao(trained.model, digits, recipe)]
    Console().print(qat_table(found))


if __name__ == "__main__":
    main()
