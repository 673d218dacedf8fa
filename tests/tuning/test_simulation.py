from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.graph.module import FxqModule
from fxq.tuning.simulation import Layer, Simulation
from tests.report.models import Block, block_input
from tests.report.test_compare import Island, random


class Branches(nn.Module):
    """A float op in the middle, functions, a module that is called twice, and a value that int8 and float layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        z = self.again(self.again(y))
        z = torch.sigmoid(z) * y + torch.logsumexp(y, -1, keepdim=True)
        w: Tensor = self.last(torch.cat([y, z], 0))
        return w


def simulate(model: nn.Module, x: Tensor) -> tuple[FxqModule, Simulation]:
    prepared = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), (x,))
    fxq.calibrate(prepared, [x], progress=False)
    return prepared, Simulation(copy.deepcopy(prepared), fxq.convert_to_reference_fx(prepared))


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


CASES = ((Block, block_input()), (Branches, random(5, 6)), (Island, random(8, 4)))


@pytest.mark.parametrize(("kind", "x"), CASES)
def test_all_int8_is_the_reference_model(kind: type[nn.Module], x: Tensor) -> None:
    prepared, simulation = simulate(made(kind), x)
    with torch.no_grad():
        assert torch.equal(simulation.keep_float(())(x), fxq.convert_to_reference_fx(prepared)(x))


@pytest.mark.parametrize(("kind", "x"), CASES)
def test_all_float_is_the_float_model(kind: type[nn.Module], x: Tensor) -> None:
    model = made(kind)
    _, simulation = simulate(model, x)
    with torch.no_grad():
        assert float((simulation.keep_float(simulation.layers)(x) - model(x)).abs().max()) < 1e-5


@pytest.mark.parametrize(("kind", "x"), CASES)
def test_each_layer_float_is_what_conversion_with_its_rule_gives(kind: type[nn.Module], x: Tensor) -> None:
    prepared, simulation = simulate(made(kind), x)
    for layer in simulation.layers:
        converted = fxq.convert_to_reference_fx(prepared, qconfig_mapping=layer.keep_float(fxq.QConfigMapping()))
        with torch.no_grad():
            assert torch.equal(simulation.keep_float([layer])(x), converted(x)), layer.what


def test_layers_are_modules_with_all_calls_and_single_calls_of_functions() -> None:
    _, simulation = simulate(made(Branches), random(5, 6))
    by_what: dict[str, Layer] = {layer.what: layer for layer in simulation.layers}
    assert {"Linear first", "Linear again", "Linear last"} <= set(by_what)
    assert len(by_what["Linear again"].nodes) == 2
    assert by_what["Linear again"].macs == 2 * 5 * 36
    assert "sigmoid" in by_what and not by_what["sigmoid"].is_module
