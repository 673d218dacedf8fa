"""convert_fx leaves the prepared model as it was, although it copies neither observers nor the weights that become integers."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.graph.module import FxqModule


def test_a_prepared_model_can_be_calibrated_on_and_converted_again() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    batches = [torch.randn(2, 3, 8, 8), 3 * torch.randn(2, 3, 8, 8)]
    prepared = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), (batches[0],))
    fxq.calibrate(prepared, batches[:1])
    before = {name: tensor.clone() for name, tensor in prepared.state_dict().items()}
    text = fxq.print_graph(prepared)
    first = fxq.convert_fx(prepared)
    assert fxq.print_graph(prepared) == text
    assert list(prepared.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in prepared.state_dict().items())
    y = first(batches[1])
    fxq.calibrate(prepared, batches[1:])
    again = fxq.convert_fx(prepared)
    assert torch.equal(first(batches[1]), y) and not torch.equal(again(batches[1]), y)


class Tied(nn.Module):
    """A layer whose weight is read in float, too, one that stays float, and one with a bias that is float in any form."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sinc(self.last(self.middle(self.first(x)))) + self.first.weight


def storages(module: nn.Module) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}


@pytest.mark.parametrize("convert", [fxq.convert_fx, fxq.convert_to_reference_fx])
@pytest.mark.parametrize("qconfig", [None, fxq.per_row_dynamic_qconfig, fxq.weight_only_qconfig()])
def test_a_converted_model_has_tensors_of_its_own(qconfig: fxq.QConfig | None, convert: Callable[[FxqModule], FxqModule]) -> None:
    x = torch.randn(16, 16)
    mapping = fxq.get_default_qconfig_mapping("x86") if qconfig is None else fxq.QConfigMapping().set_global(qconfig)
    prepared = fxq.prepare_fx(Tied().eval(), mapping.set_module_name("middle", None), (x,))
    fxq.calibrate(prepared, [x])
    converted = convert(prepared)
    assert storages(prepared).isdisjoint(storages(converted))
    y = converted(x)
    with torch.no_grad():
        for tensor in prepared.parameters():
            tensor.zero_()
    assert torch.equal(converted(x), y)


class FillsTables(nn.Module):
    """As something that torch does for the first time in a process may."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        torch.overrides.get_ignored_functions()
        torch.overrides.is_tensor_method_or_property(Tensor.view)
        return cast(Tensor, self.conv(x))


def test_nothing_holds_the_float_model_when_only_the_converted_one_is_left() -> None:
    for table in vars(torch.overrides).values():
        getattr(table, "cache_clear", bool)()
    model, x = FillsTables().eval(), torch.randn(1, 3, 8, 8)
    prepared = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), (x,))
    fxq.calibrate(prepared, [x])
    converted = fxq.convert_fx(prepared)
    weights = [weakref.ref(each.get_parameter("conv.weight")) for each in (model, prepared)]
    del model, prepared
    gc.collect()
    assert [weight() for weight in weights] == [None, None]
    assert converted(x).shape == (1, 4, 6, 6)
    assert torch.empty in torch.overrides.get_ignored_functions()


class Cube(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x**3


class ObservedCube(Cube):
    def __init__(self) -> None:
        super().__init__()
        self.observer = fxq.MinMaxObserver()

    @classmethod
    def from_float(cls, module: Cube) -> ObservedCube:
        return cls()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.observer(x))


class Int8Cube(nn.Module):
    """Takes the observer over, and changes it."""

    @classmethod
    def from_observed(cls, module: ObservedCube) -> Int8Cube:
        made = cls()
        made.observer = module.observer
        made.observer.name = "taken"
        with torch.no_grad():
            made.observer.observe(torch.full((1,), 1e6))
        return made

    def forward(self, x: Tensor) -> Tensor:
        return x**3


def test_a_custom_class_gets_observers_of_its_own() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Cube()).eval()
    x = torch.randn(2, 3, 4, 4)
    config = fxq.PrepareCustomConfig().set_float_to_observed_mapping(Cube, ObservedCube)
    prepared = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), x, config)
    fxq.calibrate(prepared, [x], progress=False)
    before = pickle.dumps(prepared)
    for _ in range(2):
        int8 = fxq.convert_fx(prepared, fxq.ConvertCustomConfig().set_observed_to_quantized_mapping(ObservedCube, Int8Cube))
        assert int8.get_submodule("1").observer.qparams().scale > 1000
        assert pickle.dumps(prepared) == before
