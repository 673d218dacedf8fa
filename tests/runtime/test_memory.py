"""Compiled code reads elements: where torch computes shapes alone, the integer ops do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

import fxq

IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def _convolution() -> nn.Module:
    return fxq.quantize(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)).eval(), [IMAGES], progress=False)


def _attention() -> nn.Module:
    return fxq.quantize_dynamic(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval(), {nn.Linear, nn.MultiheadAttention})


def _dynamic(layer: nn.Module) -> Callable[[], nn.Module]:
    return lambda: fxq.quantize_dynamic(nn.Sequential(layer).eval(), {type(layer)})


MODELS = {
    "region": (_convolution, IMAGES),
    "linear": (_dynamic(nn.Linear(8, 4)), torch.ones(3, 8)),
    "lstm": (_dynamic(nn.LSTM(8, 4)), torch.ones(5, 2, 8)),
    "attention": (_attention, torch.ones(2, 3, 16)),
}


@pytest.mark.parametrize(("make", "x"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("inside", [True, False], ids=["in its mode", "outside"])
def test_shapes_alone(make: Callable[[], nn.Module], x: Tensor, inside: bool) -> None:
    model = make()
    real, mode = tree_leaves(model(x)), FakeTensorMode(allow_non_fake_inputs=True)
    fake = mode.from_tensor(x)
    if inside:
        with mode:
            found = tree_leaves(model(fake))
    else:
        found = tree_leaves(model(fake))
    assert [(y.shape, y.dtype) for y in found] == [(y.shape, y.dtype) for y in real]
