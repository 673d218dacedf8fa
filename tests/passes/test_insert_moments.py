"""In front of which layers channels are measured, and what becomes of it."""

from __future__ import annotations

import torch
from torch import nn

import fxq
from fxq.graph.annotation import quant_of
from fxq.graph.constants import tensor_at
from fxq.graph.text import print_graph
from fxq.observers.moments import MomentsObserver
from fxq.passes import Context
from fxq.passes.insert_moments import insert_moments
from fxq.qconfig_mapping import QConfigMapping
from tests.passes.cases import EVERYTHING, X86, calibrate_on_ramps, network, parsed, ramp, text, up_to

SHARED = """
    x: f32[1, 4] = input
    a: f32[1, 4] = linear(x, @w[4, 4])
    b: f32[1, 4] = linear(a, @w[4, 4])
    output b
"""


def test_each_layer_with_weights_reads_through_an_observer() -> None:
    module = up_to("insert_moments", network())
    assert print_graph(module) == text("""
        x: f32[1, 2, 2, 4] = input
        x_observer: f32[1, 2, 2, 4] = MinMaxObserver[x_observer](x)
        c_moments: f32[1, 2, 2, 4] = MomentsObserver[c_moments](x_observer)
        c: f32[1, 2, 2, 4] = conv(c_moments, @c.weight[2, 2, 1, 1], @c.bias[2], act=relu)
        c_observer: f32[1, 2, 2, 4] = MinMaxObserver[c_observer](c)
        p: f32[1, 2, 1, 2] = max_pool(c_observer, kernel_size=(2, 2), stride=(2, 2))
        s: f32[1, 2, 1, 2] = sigmoid(p)
        j: f32[1, 4, 1, 2] = cat((p, s), dim=1)
        c_observer_1: f32[1, 4, 1, 2] = MinMaxObserver[c_observer](j)
        f: f32[1, 8] = flatten(c_observer_1, start_dim=1)
        l_moments: f32[1, 8] = MomentsObserver[l_moments](f)
        l: f32[1, 3] = linear(l_moments, @l.weight[3, 8], @l.bias[3])
        output l
    """)


def test_nothing_is_measured_where_weights_are_not_balanced() -> None:
    per_row = QConfigMapping().set_global(fxq.per_row_dynamic_qconfig)
    for mapping, profile in ((EVERYTHING, "qnnpack"), (per_row, "x86"), (QConfigMapping(), "x86")):
        assert print_graph(up_to("insert_moments", network(), mapping, profile)) == print_graph(
            up_to("insert_observers", network(), mapping, profile)
        )


def test_a_second_run_changes_nothing() -> None:
    module = up_to("insert_moments", network())
    before = print_graph(module)
    assert insert_moments(module, Context(X86, EVERYTHING)) == 0
    assert print_graph(module) == before


def test_values_are_preserved() -> None:
    x = ramp(1, 2, 2, 4)
    assert torch.equal(up_to("insert_moments", network())(x), network()(x))


def test_layers_with_the_same_weights_have_one_together() -> None:
    module = up_to("insert_moments", parsed(SHARED, {"w": torch.eye(4) / 2}))
    calibrate_on_ramps(module)
    observer = module.get_submodule("a_moments")
    assert [each for each in module.modules() if isinstance(each, MomentsObserver)] == [observer]
    moments = observer.moments()
    assert moments is not None and moments.mean.tolist() == (0.75 * ramp(1, 4)[0].double()).tolist()


def test_channels_are_those_of_the_layer() -> None:
    model = nn.Sequential(nn.Conv2d(6, 4, 1, groups=2), nn.ConvTranspose2d(4, 6, 2, groups=2), nn.Flatten(2), nn.Linear(16, 3)).eval()
    prepared = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping(), (torch.randn(2, 6, 3, 3),))
    found = {name: (each.channels, each.axis) for name, each in prepared.named_modules() if isinstance(each, MomentsObserver)}
    assert found == {"_0_moments": (6, -3), "_1_moments": (4, -3), "_3_moments": (16, -1)}


def test_nothing_is_left_of_it_in_the_converted_model() -> None:
    module = up_to("quantize_constants", network())
    assert all(quant.moments is None for node in module.graph.nodes if (quant := quant_of(node)) is not None)
    assert not [each for each in module.modules() if isinstance(each, MomentsObserver)]


def test_weights_are_rounded_by_what_they_read() -> None:
    """A step is 1. Only where x is not 0 on average errors add up to an offset: there the larger error moves."""
    lines = "x: f32[4, 4] = input\na = linear(x, @w[1, 4])\noutput a"
    weight = torch.tensor([[127.0, 0.45, 0.4, 0.3]])
    module = up_to("insert_moments", parsed(lines, {"w": weight}))
    module(torch.tensor([[0.0, 1.0, 3.0, 3.0], [0.0, -1.0, 3.1, 3.1]]))
    int8 = fxq.convert_fx(module)
    assert int8.get_submodule("a").get_buffer("weight").tolist() == [[127, 0, 1, 0]]


def test_a_layer_beside_one_that_is_turned_off_keeps_what_was_measured() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 5)).eval(), torch.randn(64, 40)
    prepared = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping(), (x,))
    fxq.calibrate(prepared, [x], progress=False)
    kept = QConfigMapping().set_module_name("4", None)
    partly, whole = fxq.convert_fx(prepared, qconfig_mapping=kept), fxq.convert_fx(prepared)
    assert torch.equal(*(tensor_at(each, "2.weight") for each in (partly, whole)))
