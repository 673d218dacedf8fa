"""The sweep of FUSIONS over a whole model. Rule by rule: tests/patterns/test_fusions.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.fx import Node

from fxq.graph.annotation import origins_of, refusals_of
from fxq.graph.text import print_graph
from fxq.passes import FUSE, Context, run_pipeline
from fxq.passes.fuse import fuse
from fxq.passes.trace import trace
from fxq.patterns.expressions import Var, op
from fxq.patterns.matcher import Match
from fxq.patterns.rules import Rule
from fxq.qconfig_mapping import QConfigMapping
from tests.passes.cases import EVERYTHING, PER_CHANNEL, X86, ramp, residual, text, up_to

X = ramp(2, 3, 8, 8)


def test_a_network() -> None:
    module = up_to("fuse", trace(residual(), X))
    assert print_graph(module) == text("""
        x: f32[2, 3, 8, 8] = input
        stem_conv: f32[2, 4, 8, 8] = conv(x, @stem.conv.weight[4, 3, 3, 3], @stem.conv.bias[4], padding=(1, 1), act=relu)
        body_0_conv: f32[2, 4, 8, 8] = conv(stem_conv, @body.0.conv.weight[4, 4, 3, 3], @body.0.conv.bias[4], padding=(1, 1), act=relu)
        body_1: f32[2, 4, 8, 8] = conv(body_0_conv, @body.1.weight[4, 4, 1, 1], @body.1.bias[4], residual=stem_conv, act=relu)
        pool: f32[2, 4, 1, 1] = adaptive_avg_pool(body_1, output_size=(1, 1))
        flatten: f32[2, 4] = flatten(pool, start_dim=1)
        fc: f32[2, 5] = linear(flatten, @fc.weight[5, 4], @fc.bias[5])
        output fc
    """)


def test_nothing_of_the_batch_norms_is_left_in_the_state_dict() -> None:
    keys = {"stem.conv", "body.0.conv", "body.1", "fc"}
    assert set(up_to("fuse", trace(residual(), X)).state_dict()) == {f"{key}.{name}" for key in keys for name in ("weight", "bias")}


def test_a_second_run_changes_nothing() -> None:
    module = up_to("fuse", trace(residual(), X))
    before = print_graph(module)
    assert fuse(module, Context(X86, EVERYTHING)) == 0
    assert print_graph(module) == before


def test_values_are_preserved() -> None:
    """110 dB: float32 roundings of folded weights."""
    with torch.no_grad():
        expected, found = residual()(X), up_to("fuse", trace(residual(), X))(X)
    assert float(10 * torch.log10(expected.square().sum() / (expected - found).square().sum())) > 110


def test_origins_tell_what_was_fused() -> None:
    module = up_to("fuse", trace(residual(), X))
    (node,) = (node for node in module.graph.nodes if node.name == "body_1")
    assert [origin.object_type for origin in origins_of(node)] == ["torch.nn.Conv2d", "operator.add", "torch.relu"]


@pytest.mark.parametrize(
    ("mapping", "detail"),
    [
        (
            QConfigMapping().set_global(PER_CHANNEL).set_object_type(nn.ReLU, None),
            'stem_relu is kept float by set_object_type("torch.nn.ReLU")',
        ),
        (
            QConfigMapping().set_global(PER_CHANNEL).set_module_name("stem.relu", None),
            'stem_relu is kept float by set_module_name("stem.relu")',
        ),
    ],
    ids=["by type", "by name"],
)
def test_a_relu_that_is_switched_off_is_not_fused(mapping: QConfigMapping, detail: str) -> None:
    module = up_to("fuse", trace(residual(), X), mapping)
    (node,) = (node for node in module.graph.nodes if node.name == "stem_relu")
    ((rule, reason),) = refusals_of(node)
    assert (rule, reason.detail) == ("op_relu", detail)


def test_a_model_in_training_mode_keeps_its_batch_norms() -> None:
    module = up_to("fuse", trace(residual().train(), X))
    (node,) = (node for node in module.graph.nodes if node.name == "stem_bn")
    ((rule, reason),) = refusals_of(node)
    assert (rule, reason.detail) == ("conv_bn", "stem_bn is in training mode; call model.eval() first")


def test_rules_of_the_users_come_after_ours() -> None:
    """sigmoid(relu(y)): the relu is ours where there is a conv, and the rule's where there is none."""
    inner = op("relu", label="inner")

    def drop_relu(match: Match) -> Node:
        match.anchor.replace_input_with(match.nodes["inner"], match.values["X"])
        return match.anchor

    rule = Rule("sigmoid_relu", op("sigmoid")(inner(Var("X"))), when=(), rewrite=drop_relu)
    model = nn.Sequential(nn.ReLU(), nn.Sigmoid(), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Sigmoid())
    module = run_pipeline(trace(model.eval(), X), FUSE, Context(X86, rules=(rule,)))
    assert print_graph(module) == text("""
        input_1: f32[2, 3, 8, 8] = input
        _1: f32[2, 3, 8, 8] = sigmoid(input_1)
        _2: f32[2, 3, 8, 8] = conv(_1, @2.weight[3, 3, 1, 1], @2.bias[3], act=relu)
        _4: f32[2, 3, 8, 8] = sigmoid(_2)
        output _4
    """)
