"""What the mapping says of every call."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fxq.errors import ConfigError
from fxq.graph.annotation import resolution_of
from fxq.graph.module import FxqModule
from fxq.graph.text import print_graph
from fxq.passes import Context
from fxq.passes.resolve_qconfigs import require_matches, resolve_qconfigs
from fxq.passes.trace import trace
from fxq.qconfig_mapping import QConfigMapping
from tests.passes.cases import EVERYTHING, PER_CHANNEL, X86, ramp, residual, up_to

X = ramp(2, 3, 8, 8)


def rules(module: FxqModule) -> dict[str, str]:
    found = {node.name: resolution_of(node) for node in module.graph.nodes}
    return {name: resolution.rule for name, resolution in found.items() if resolution is not None and resolution.qconfig is None}


def test_every_call_is_asked_about_before_fusion() -> None:
    mapping = (
        QConfigMapping()
        .set_global(PER_CHANNEL)
        .set_object_type(nn.ReLU, None)
        .set_module_name("body", None)
        .set_object_type(torch.relu, None)
    )
    module = up_to("resolve_qconfigs", trace(residual(), X), mapping)
    in_body = dict.fromkeys(["body_0_conv", "body_0_bn", "body_0_relu", "body_1"], 'set_module_name("body")')
    assert rules(module) == {"stem_relu": 'set_object_type("torch.nn.ReLU")', "relu": 'set_object_type("torch.relu")'} | in_body
    assert print_graph(module) == print_graph(up_to("canonicalize", trace(residual(), X)))


def test_a_rule_that_matches_nothing_is_an_error() -> None:
    mapping = QConfigMapping().set_global(PER_CHANNEL).set_module_name("stem.cnov", None)
    with pytest.raises(ConfigError, match=r"1 rule matches nothing[^$]*stem\.conv"):
        require_matches(trace(residual(), X), mapping)


def test_no_mapping_says_nothing() -> None:
    module = up_to("canonicalize", trace(residual(), X))
    assert resolve_qconfigs(module, Context(X86)) == 0
    assert all(resolution_of(node) is None for node in module.graph.nodes)


def test_a_second_run_changes_nothing_and_values_are_preserved() -> None:
    module = up_to("resolve_qconfigs", trace(residual(), X), EVERYTHING)
    before = {node: resolution_of(node) for node in module.graph.nodes}
    assert resolve_qconfigs(module, Context(X86, EVERYTHING)) == 13 - 1
    assert {node: resolution_of(node) for node in module.graph.nodes} == before
    assert torch.equal(module(X), residual()(X))
