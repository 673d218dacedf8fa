"""Float ops without an integer form → ops that have one. Row by row: tests/patterns/test_decompositions.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fxq.api import convert_fx, fuse_fx
from fxq.graph.annotation import refusals_of
from fxq.graph.module import FxqModule
from fxq.graph.text import print_graph
from fxq.passes import Context
from fxq.passes.decompose import decompose
from fxq.passes.trace import trace
from fxq.qconfig_mapping import QConfigMapping
from tests.passes.cases import EVERYTHING, PER_CHANNEL, X86, calibrate_on_ramps, decisions, ramp, text, up_to

X = ramp(2, 3, 8, 8)


class PreActivation(nn.Module):
    """norm, relu, conv; a dense connection; and the same norm a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 3, 1)
        self.last = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(torch.relu(self.norm(x)))
        return self.last(torch.cat([self.norm(y), x], 1)).flatten(1)


def model() -> nn.Module:
    """With batch norm statistics that are not those of a new one."""
    torch.manual_seed(0)
    made = PreActivation()
    for norm in (made.norm, made.last):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, -1.5, 1.5)
    return made.eval()


def decomposed(mapping: QConfigMapping = EVERYTHING) -> FxqModule:
    return up_to("decompose", trace(model(), X), mapping)


def test_a_network() -> None:
    module = decomposed()
    assert print_graph(module) == text("""
        x: f32[2, 3, 8, 8] = input
        norm: f32[2, 3, 8, 8] = conv(x, @norm.gain[3, 1, 1, 1], @norm.shift[3], groups=3, act=relu)
        conv: f32[2, 3, 8, 8] = conv(norm, @conv.weight[3, 3, 1, 1], @conv.bias[3])
        cat: f32[2, 6, 8, 8] = cat((conv, x), dim=1)
        last: f32[2, 6, 8, 8] = conv(cat, @last.gain[6, 1, 1, 1], @last.shift[6], groups=6)
        flatten: f32[2, 384] = flatten(last, start_dim=1)
        output flatten
    """)
    assert set(module.state_dict()) == {
        "norm.gain", "norm.shift", "conv.weight", "conv.bias", "last.gain", "last.shift",
    }  # fmt: skip


def test_a_second_run_changes_nothing() -> None:
    module = decomposed()
    before = print_graph(module)
    assert decompose(module, Context(X86, EVERYTHING)) == 0
    assert print_graph(module) == before


def test_values_are_preserved() -> None:
    """110 dB: float32 roundings of gains and shifts."""
    with torch.no_grad():
        expected, found = model()(X), decomposed()(X)
    assert float(10 * torch.log10(expected.square().sum() / (expected - found).square().sum())) > 110


def test_what_comes_of_it_is_int8() -> None:
    module = up_to("annotate", trace(model(), X))
    assert {name: decided for name, decided in decisions(module).items() if name != "x"} == {
        "norm": "int8", "conv": "int8", "cat": "int8", "last": "int8 → float",
        "flatten": "only float readers: computes nothing on its elements, and no int8 op reads its result",
    }  # fmt: skip
    up_to_observers = up_to("insert_observers", trace(model(), X))
    calibrate_on_ramps(up_to_observers)
    with torch.no_grad():
        expected, found = model()(X), convert_fx(up_to_observers)(X)
    assert float(10 * torch.log10(expected.square().sum() / (expected - found).square().sum())) > 35


@pytest.mark.parametrize(
    ("mapping", "left"),
    [
        (QConfigMapping().set_global(PER_CHANNEL).set_object_type(nn.BatchNorm2d, None), {"norm", "last"}),
        (QConfigMapping().set_global(PER_CHANNEL).set_module_name("last", None), {"last"}),
        (QConfigMapping().set_object_type(nn.Conv2d, PER_CHANNEL), {"norm", "last"}),
    ],
    ids=["switched off by type", "switched off by name", "no rule"],
)
def test_a_batch_norm_that_stays_float_stays_what_it_is(mapping: QConfigMapping, left: set[str]) -> None:
    module = decomposed(mapping)
    kept = {node.name for node in module.graph.nodes if "batch_norm(" in print_graph(module).split(f"\n{node.name}: ")[-1].split("\n")[0]}
    assert kept == left
    refused = [node for node in module.graph.nodes if node.name in left]
    assert all(rule == "bn_as_conv" for node in refused for rule, _ in refusals_of(node)[-1:])


def test_fusing_alone_leaves_a_batch_norm_as_it_is() -> None:
    assert "last: f32[2, 6, 8, 8] = batch_norm(cat," in print_graph(fuse_fx(model(), X))
