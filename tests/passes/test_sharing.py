"""What a model has once and uses twice, and what is wrapped around it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import fxq
from fxq.report import Kind

X = torch.linspace(-1, 1, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)


def converted(model: nn.Module, mapping: fxq.QConfigMapping, x: Tensor) -> fxq.FxqModule:
    prepared = fxq.prepare_fx(model, mapping, x)
    fxq.calibrate(prepared, [x], progress=False)
    return fxq.convert_fx(prepared)


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(torch.relu(self.conv(x)))
        return y


@pytest.mark.parametrize("off", [0, 1])
def test_a_module_that_is_called_twice_has_a_qconfig_for_each_call(off: int) -> None:
    torch.manual_seed(0)
    model = Reused().eval()
    mapping = fxq.get_default_qconfig_mapping("x86").set_module_name_object_type_order("", nn.Conv2d, off, None)
    int8 = converted(model, mapping, X)
    kinds = [row.kind for row in fxq.report(int8).rows if row.module == "conv"]
    assert kinds == [Kind.FLOAT if index == off else Kind.INT8 for index in range(2)]
    assert (int8(X) - model(X)).abs().max() < 0.02


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.relu(self.first(x)))
        return y


@pytest.mark.parametrize(("off", "int8_layers"), [(None, 2), ("first", 1), ("last", 1)])
def test_tied_weights(off: str | None, int8_layers: int) -> None:
    torch.manual_seed(0)
    model, x = Tied().eval(), torch.randn(8, 4)
    mapping = fxq.get_default_qconfig_mapping("x86")
    int8 = converted(model, mapping if off is None else mapping.set_module_name(off, None), x)
    assert fxq.report(int8).totals.heavy_int8 == int8_layers
    assert (int8(x) - model(x)).abs().max() < 0.02
    assert model.first.weight is model.last.weight


@pytest.fixture
def process_group() -> Iterator[None]:
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_is_left_out() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()).eval()
    plain, wrapped = (fxq.quantize(each, [X], progress=False) for each in (model, DistributedDataParallel(model)))
    assert fxq.print_graph(plain) == fxq.print_graph(wrapped) and torch.equal(plain(X), wrapped(X))
