"""Where observers stand, and what they are called."""

from __future__ import annotations

import pytest
import torch

from fxq.errors import StageError
from fxq.graph.annotation import quant_of
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.observers import HistogramObserver, MinMaxObserver, Observer, PerChannelMinMaxObserver
from fxq.passes import PREPARE, Context, run_pipeline
from fxq.qconfig_mapping import QConfig, QConfigMapping
from tests.passes.cases import EVERYTHING, PER_CHANNEL, X86, network, parsed, ramp, text, up_to

INPUT = "x: f32[1, 2, 4, 4] = input"
CONV = "conv(x, @c.weight[2, 2, 1, 1], @c.bias[2])"


def observed(lines: str, mapping: QConfigMapping = EVERYTHING) -> str:
    return print_graph(up_to("insert_observers", parsed(lines), mapping))


def test_one_observer_for_each_value_with_a_range_of_its_own() -> None:
    module = up_to("insert_observers", network())
    assert module.stage is Stage.OBSERVED
    assert print_graph(module) == text("""
        x: f32[1, 2, 2, 4] = input
        x_observer: f32[1, 2, 2, 4] = MinMaxObserver[x_observer](x)
        c: f32[1, 2, 2, 4] = conv(x_observer, @c.weight[2, 2, 1, 1], @c.bias[2], act=relu)
        c_observer: f32[1, 2, 2, 4] = MinMaxObserver[c_observer](c)
        p: f32[1, 2, 1, 2] = max_pool(c_observer, kernel_size=(2, 2), stride=(2, 2))
        s: f32[1, 2, 1, 2] = sigmoid(p)
        j: f32[1, 4, 1, 2] = cat((p, s), dim=1)
        c_observer_1: f32[1, 4, 1, 2] = MinMaxObserver[c_observer](j)
        f: f32[1, 8] = flatten(c_observer_1, start_dim=1)
        l: f32[1, 3] = linear(f, @l.weight[3, 8], @l.bias[3])
        output l
    """)


def test_a_group_has_one_observer_on_all_that_brings_data_in() -> None:
    module = up_to("insert_observers", parsed(f"{INPUT}\na = {CONV}\nb = silu(a)\nj = cat((a, b), dim=1)\nd = silu(j)\noutput d"))
    assert print_graph(module) == text("""
        x: f32[1, 2, 4, 4] = input
        x_observer: f32[1, 2, 4, 4] = MinMaxObserver[x_observer](x)
        a: f32[1, 2, 4, 4] = conv(x_observer, @c.weight[2, 2, 1, 1], @c.bias[2])
        a_observer: f32[1, 2, 4, 4] = MinMaxObserver[a_observer](a)
        b: f32[1, 2, 4, 4] = silu(a_observer)
        a_observer_1: f32[1, 2, 4, 4] = MinMaxObserver[a_observer](b)
        j: f32[1, 4, 4, 4] = cat((a_observer, a_observer_1), dim=1)
        d: f32[1, 4, 4, 4] = silu(j)
        d_observer: f32[1, 4, 4, 4] = MinMaxObserver[d_observer](d)
        output d_observer
    """)
    assert [module.get_submodule(f"{name}_observer").name for name in "xad"] == ["x", "a, b", "d"]


def test_cat_of_fixed_qparams_that_differ_is_observed_itself() -> None:
    assert observed(f"{INPUT}\ns = sigmoid(x)\nt = tanh(x)\nj = cat((s, t), dim=1)\nz = silu(j)\noutput z") == text("""
        x: f32[1, 2, 4, 4] = input
        x_observer: f32[1, 2, 4, 4] = MinMaxObserver[x_observer](x)
        s: f32[1, 2, 4, 4] = sigmoid(x_observer)
        t: f32[1, 2, 4, 4] = tanh(x_observer)
        j: f32[1, 4, 4, 4] = cat((s, t), dim=1)
        j_observer: f32[1, 4, 4, 4] = MinMaxObserver[j_observer](j)
        z: f32[1, 4, 4, 4] = silu(j_observer)
        z_observer: f32[1, 4, 4, 4] = MinMaxObserver[z_observer](z)
        output z_observer
    """)


def test_float_readers_of_a_float_value_read_it_as_it_was() -> None:
    assert observed(f"{INPUT}\nt = softmax(x, dim=1)\nc = {CONV.replace('x', 't')}\nu = softmax(t, dim=1)\noutput (c, u)") == text("""
        x: f32[1, 2, 4, 4] = input
        t: f32[1, 2, 4, 4] = softmax(x, dim=1)
        t_observer: f32[1, 2, 4, 4] = MinMaxObserver[t_observer](t)
        c: f32[1, 2, 4, 4] = conv(t_observer, @c.weight[2, 2, 1, 1], @c.bias[2])
        u: f32[1, 2, 4, 4] = softmax(t, dim=1)
        output (c, u)
    """)


def test_float_readers_of_an_int8_value_read_what_is_left_of_it() -> None:
    assert observed(f"{INPUT}\nc = {CONV}\ns = silu(c)\nu = softmax(c, dim=1)\nn = size(c, dim=0)\noutput (s, u, n)") == text("""
        x: f32[1, 2, 4, 4] = input
        x_observer: f32[1, 2, 4, 4] = MinMaxObserver[x_observer](x)
        c: f32[1, 2, 4, 4] = conv(x_observer, @c.weight[2, 2, 1, 1], @c.bias[2])
        c_observer: f32[1, 2, 4, 4] = MinMaxObserver[c_observer](c)
        s: f32[1, 2, 4, 4] = silu(c_observer)
        s_observer: f32[1, 2, 4, 4] = MinMaxObserver[s_observer](s)
        u: f32[1, 2, 4, 4] = softmax(c_observer, dim=1)
        n = size(c, dim=0)
        output (s_observer, u, n)
    """)


def test_nothing_is_observed_where_nothing_is_int8() -> None:
    lines = text("""
        x: f32[1, 2, 4, 4] = input
        t: f32[1, 2, 4, 4] = softmax(x, dim=1)
        output t
    """)
    assert observed(lines) == lines
    mapping = QConfigMapping().set_global(PER_CHANNEL).set_module_name("c", None)
    lines = lines.replace("softmax(x, dim=1)", CONV)
    assert observed(lines, mapping) == lines


def test_the_observer_is_that_of_the_op_that_makes_the_value() -> None:
    histogram = QConfig(activation=HistogramObserver, weight=PerChannelMinMaxObserver)
    mapping = QConfigMapping().set_global(PER_CHANNEL).set_module_name("c", histogram)
    module = up_to("insert_observers", parsed(f"{INPUT}\nc = {CONV}\ns = silu(c)\noutput s"), mapping)
    kinds = {name: type(each) for name, each in module.named_modules() if isinstance(each, Observer)}
    # the input has no op of its own: the conv that reads it decides
    assert kinds == {"x_observer": HistogramObserver, "c_observer": HistogramObserver, "s_observer": MinMaxObserver}


def test_an_observer_does_not_take_the_path_of_a_users_module() -> None:
    lines = f"{INPUT}\nx2 = conv(x, @x_observer.weight[2, 2, 1, 1])\noutput x2"
    module = up_to("insert_observers", parsed(lines))
    assert [name for name, each in module.named_modules() if isinstance(each, Observer)] == ["x_observer_1"]


def test_values_are_preserved() -> None:
    x = ramp(1, 2, 2, 4)
    assert torch.equal(up_to("insert_observers", network())(x), network()(x))


def test_observers_belong_to_the_group_that_they_observe() -> None:
    module = up_to("insert_observers", network())
    for node in module.graph.find_nodes(op="call_module"):
        quant, observed_quant = quant_of(node), quant_of(node.all_input_nodes[0])
        assert quant is not None
        assert observed_quant is not None
        assert (quant.group, quant.output, quant.rule) == (observed_quant.group, observed_quant.output, "observer")


def test_a_second_run_is_refused() -> None:
    module = up_to("insert_observers", network())
    with pytest.raises(StageError, match="insert_observers\n  expected: a model at stage ANNOTATED\n  found:    stage OBSERVED"):
        run_pipeline(module, (PREPARE[-2],), Context(X86, EVERYTHING))
