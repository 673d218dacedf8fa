"""Modules of torch.nn that stay float between int8 regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.files.float_modules import FLOAT_MODULES, Unrebuildable, build_module, module_arguments
from fxq.graph.names import qualified_name
from tests.files.same import assert_same, through_file


class Around(nn.Module):
    """Linear, the module, linear."""

    def __init__(self, module: nn.Module, features: int) -> None:
        super().__init__()
        self.before, self.inside, self.after = nn.Linear(6, 6), module, nn.Linear(features, 3)

    def forward(self, x: Tensor) -> Any:
        y = self.inside(self.before(x))
        return self.after(y[0] if isinstance(self.inside, nn.RNNBase) else y)


MODULES = {
    "LSTM": (lambda: nn.LSTM(6, 4, num_layers=2, bidirectional=True, batch_first=True), 8),
    "LSTM with projections": (lambda: nn.LSTM(6, 4, proj_size=2, bias=False), 2),
    "GRU": (lambda: nn.GRU(6, 4, dropout=0.0), 4),
    "RNN": (lambda: nn.RNN(6, 4, nonlinearity="relu"), 4),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3, alpha=0.5), 6),
    "RMSNorm": (lambda: nn.RMSNorm(6), 6),
    "LogSoftmax": (lambda: nn.LogSoftmax(dim=-1), 6),
}


@pytest.mark.parametrize("name", MODULES)
def test_module_between_int8_layers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, features = MODULES[name]
    x = torch.randn(2, 5, 6)
    model = fxq.quantize(Around(make(), features), [x], progress=False)
    assert any(type(module) in FLOAT_MODULES for module in model.modules())
    assert_same(through_file(model, tmp_path), model, x)


@pytest.mark.parametrize(
    "module",
    [
        nn.Embedding(5, 3, padding_idx=1),
        nn.MultiheadAttention(8, 2, bias=False),
        nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_bias_kv=True),
        nn.BatchNorm2d(3, momentum=None, affine=False),
        nn.BatchNorm1d(3, track_running_stats=False),
        nn.Conv2d(4, 6, (3, 1), padding="same", groups=2, padding_mode="reflect"),
        nn.ConvTranspose1d(4, 6, 3, output_padding=1, stride=2),
        nn.Linear(3, 2, bias=False),
        nn.Unflatten(1, (2, 3)),
        nn.Upsample(scale_factor=(2.0, 3.0), mode="bilinear"),
        nn.AdaptiveAvgPool2d((None, 3)),
        nn.PReLU(4, init=0.5),
        nn.GRUCell(3, 4),
        nn.GroupNorm(2, 4, affine=False),
    ],
    ids=lambda module: type(module).__name__,
)
def test_arguments_make_the_same_module(module: nn.Module) -> None:
    made = build_module(qualified_name(type(module)), module_arguments(module), 100)
    assert repr(made) == repr(module)
    assert {name: value.shape for name, value in made.state_dict().items()} == {
        name: value.shape for name, value in module.state_dict().items()
    }
    assert all(value.is_meta for value in made.state_dict().values())


def test_changed_modules_are_refused() -> None:
    module = nn.Linear(3, 2)
    module.note = "mine"
    with pytest.raises(Unrebuildable, match="note"):
        module_arguments(module)
    other = nn.Linear(3, 2)
    other.weight = nn.Parameter(torch.zeros(2, 4))
    with pytest.raises(Unrebuildable, match="other parameters"):
        module_arguments(other)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("torch.nn.LSTM", {"input_size": 1, "hidden_size": 1, "num_layers": 10**9}),
        ("torch.nn.Linear", {"in_features": -1, "out_features": 3}),
        ("torch.nn.Linear", {"in_features": "a", "out_features": 3}),
        ("torch.nn.Linear", {"in_features": 3, "out_features": 3, "device": "cpu"}),
        ("torch.nn.Linear", {}),
        ("torch.nn.Transformer", {}),
        ("os.system", {}),
    ],
)
def test_what_is_no_module_is_refused(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(Unrebuildable):
        build_module(name, arguments, 4)
