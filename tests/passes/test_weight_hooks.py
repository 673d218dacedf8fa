"""Weights that hooks compute in front of every call."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm, weight_norm

import fxq
from fxq.passes.trace import trace
from fxq.passes.whole import TraceOptions
from tests.passes.cases import EVERYTHING


def model_with(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(norm(nn.Conv1d(4, 8, 3)), nn.ReLU(), norm(nn.ConvTranspose1d(8, 4, 3)))


@pytest.mark.parametrize("norm", [weight_norm, spectral_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
def test_in_evaluation_the_weight_is_what_the_hook_makes_of_it(norm: Callable[[nn.Module], nn.Module]) -> None:
    model, x = model_with(norm).eval(), torch.randn(2, 4, 16)
    traced = trace(model, x, TraceOptions(strict=True))
    assert torch.equal(traced(x), model(x))
    assert model[0]._forward_pre_hooks and {name for name, _ in model.named_parameters()} > {"0.bias", "2.bias"}
    prepared = fxq.prepare_fx(model, EVERYTHING, x)
    assert fxq.report(prepared).totals.macs_share_int8 == 1


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
def test_what_is_trained_is_the_weight_itself() -> None:
    model, x = model_with(weight_norm).train(), torch.randn(2, 4, 16)
    prepared = fxq.prepare_qat_fx(model, EVERYTHING, x)
    assert torch.equal(prepared.get_parameter("0.weight"), model[0].weight)
    prepared(x).sum().backward()
    torch.optim.SGD(prepared.parameters(), lr=0.1).step()
    assert fxq.report(fxq.convert_fx(prepared.eval())).totals.macs_share_int8 == 1
