"""convert_fx leaves the prepared model as it was, although it does not copy the observers."""

from __future__ import annotations

import torch
from torch import nn

import fxq


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
