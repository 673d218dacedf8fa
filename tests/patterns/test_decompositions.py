"""Every row of DECOMPOSITIONS: what it makes, what it leaves alone and why, and that values stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from fxq.graph.annotation import Origin, origins_of, refusals_of, set_origins, set_resolution, tensor_type
from fxq.graph.constants import tensor_at
from fxq.graph.module import FxqModule
from fxq.graph.parse import parse_graph
from fxq.graph.reasons import Reason, Why
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.graph.verify import verify
from fxq.patterns.decompositions import DECOMPOSITIONS
from fxq.patterns.fusions import ACTIVATIONS
from fxq.patterns.rules import rewrite
from fxq.qconfig_mapping import default_qconfig
from tests.patterns.test_fusions import graph

RULES = {rule.name: rule for rule in DECOMPOSITIONS}

X = "x: f32[2, 4, 6, 6] = input"
BN = "b: f32[2, 4, 6, 6] = batch_norm(x, @b.running_mean[4], @b.running_var[4], @b.weight[4], @b.bias[4])"
AS_CONV = "b: f32[2, 4, 6, 6] = conv(x, @b.gain[4, 1, 1, 1], @b.shift[4], groups=4)"


@dataclass(frozen=True)
class _Resolution:
    qconfig: Any = default_qconfig
    rule: str = "set_global"
    explicit: bool = True


def prepared(text: str, resolution: _Resolution | None) -> FxqModule:
    """The graph with statistics away from 0 and 1, as if every op had this resolution."""
    module = parse_graph(text)
    torch.manual_seed(0)
    for name, value in module.state_dict().items():
        value.copy_(torch.rand(value.shape) + 0.5 if name.endswith("var") else torch.randn(value.shape))
    for node in module.graph.nodes:
        if resolution is not None and node.op == "call_function":
            set_resolution(node, resolution)
    return module


def run(module: FxqModule) -> tuple[Tensor, ...]:
    module.recompile()
    generator = torch.Generator().manual_seed(1)
    found = [tensor_type(node) for node in module.graph.find_nodes(op="placeholder")]
    with torch.no_grad():
        result = module(*(torch.randn(each.shape, generator=generator).to(each.dtype) for each in found if each is not None))
    return result if isinstance(result, tuple) else (result,)


@dataclass(frozen=True)
class Rewrite:
    """A graph before and after; values agree within 120 dB."""

    before: str
    after: str


REWRITES = {
    "an image": Rewrite(graph(X, BN, "output b"), graph(X, AS_CONV, "output b")),
    "neither scaled nor shifted, other eps": Rewrite(
        graph(X, "b: f32[2, 4, 6, 6] = batch_norm(x, @b.running_mean[4], @b.running_var[4], eps=0.1)", "output b"),
        graph(X, AS_CONV, "output b"),
    ),
    "a sequence": Rewrite(
        graph("x: f32[2, 4, 6] = input", "b: f32[2, 4, 6] = batch_norm(x, @b.mean[4], @b.var[4])", "output b"),
        graph("x: f32[2, 4, 6] = input", "b: f32[2, 4, 6] = conv(x, @b.gain[4, 1, 1], @b.shift[4], groups=4)", "output b"),
    ),
    "a volume": Rewrite(
        graph("x: f32[1, 2, 2, 3, 3] = input", "b: f32[1, 2, 2, 3, 3] = batch_norm(x, @b.mean[2], @b.var[2], @b.weight[2])", "output b"),
        graph(
            "x: f32[1, 2, 2, 3, 3] = input", "b: f32[1, 2, 2, 3, 3] = conv(x, @b.gain[2, 1, 1, 1, 1], @b.shift[2], groups=2)", "output b"
        ),
    ),
    "float64 stays float64": Rewrite(
        graph("x: f64[2, 4, 6] = input", "b: f64[2, 4, 6] = batch_norm(x, @b.mean[f64, 4], @b.var[f64, 4])", "output b"),
        graph("x: f64[2, 4, 6] = input", "b: f64[2, 4, 6] = conv(x, @b.gain[f64, 4, 1, 1], @b.shift[f64, 4], groups=4)", "output b"),
    ),
    "the relu behind it becomes part of it": Rewrite(
        graph(X, BN, "y: f32[2, 4, 6, 6] = relu(b)", "output y"), graph(X, f"{AS_CONV[:-1]}, act=relu)", "output b")
    ),
    "so does a relu6": Rewrite(
        graph(X, BN, "y: f32[2, 4, 6, 6] = clamp(b, min=0.0, max=6.0)", "output y"),
        graph(X, f"{AS_CONV[:-1]}, act=relu6)", "output b"),
    ),
    "a value that others read too": Rewrite(
        graph(X, "s: f32[2, 4, 6, 6] = silu(x)", BN.replace("(x,", "(s,"), "y: f32[2, 4, 6, 6] = add(b, s)", "output y"),
        graph(X, "s: f32[2, 4, 6, 6] = silu(x)", AS_CONV.replace("(x,", "(s,"), "y: f32[2, 4, 6, 6] = add(b, s)", "output y"),
    ),
    "two batch norms with the same statistics": Rewrite(
        graph(X, BN, BN.replace("b: ", "c: ").replace("(x,", "(b,"), "output c"),
        graph(
            X, AS_CONV, "c: f32[2, 4, 6, 6] = conv(b, @b.gain_1[4, 1, 1, 1], @b.shift_1[4], groups=4)", "output c"
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REWRITES.values(), ids=REWRITES)
def test_rewrite(case: Rewrite) -> None:
    module = prepared(case.before, _Resolution())
    before = run(module)
    assert rewrite(module, DECOMPOSITIONS)
    verify(module, Stage.FUSED, "decompose")
    assert print_graph(module) == case.after
    for found, expected in zip(run(module), before, strict=True):
        assert found.dtype == expected.dtype
        assert float(10 * torch.log10(expected.square().sum() / (found - expected).square().sum())) > 120


@pytest.mark.parametrize("case", REWRITES.values(), ids=REWRITES)
def test_a_second_run_changes_nothing(case: Rewrite) -> None:
    module = prepared(case.before, _Resolution())
    rewrite(module, DECOMPOSITIONS)
    after, state = print_graph(module), set(module.state_dict())
    assert rewrite(module, DECOMPOSITIONS) == []
    assert print_graph(module) == after and set(module.state_dict()) == state


def test_gain_and_shift_are_rounded_once() -> None:
    """g = γ / sqrt(σ² + ε) and β − μ · g in float64, each rounded to float32 at the end."""
    module = prepared(graph(X, BN, "output b"), _Resolution())
    mean, variance, gamma, beta = (tensor_at(module, f"b.{name}").double() for name in ("running_mean", "running_var", "weight", "bias"))
    rewrite(module, DECOMPOSITIONS)
    gain = gamma * torch.rsqrt(variance + 1e-5)
    assert torch.equal(tensor_at(module, "b.gain"), gain.float().reshape(4, 1, 1, 1))
    assert torch.equal(tensor_at(module, "b.shift"), (beta - mean * gain).float())


def test_name_and_origins_stay_and_constants_stand_where_the_module_was() -> None:
    module = prepared(graph(X, BN, "output b"), _Resolution())
    (node,) = (node for node in module.graph.nodes if node.name == "b")
    origins = (Origin("layer.0.norm", "torch.nn.BatchNorm2d"),)
    set_origins(node, origins)
    rewrite(module, DECOMPOSITIONS)
    assert (node.name, origins_of(node)) == ("b", origins)
    assert {str(read.target) for read in module.graph.find_nodes(op="get_attr")} == {"layer.0.norm.gain", "layer.0.norm.shift"}


# --- near misses -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    """A batch norm that stays what it is, and why."""

    graph: str
    why: Why
    detail: str
    resolution: _Resolution | None = _Resolution()


REFUSALS = {
    "training mode": Refusal(
        graph(X, BN.replace("@b.bias[4])", "@b.bias[4], training=True)"), "output b"),
        Why.TRAINING,
        "b is in training mode; call model.eval() first",
    ),
    "computed statistics": Refusal(
        graph(X, "m: f32[4] = input", "b: f32[2, 4, 6, 6] = batch_norm(x, m, @v[4])", "output b"),
        Why.NOT_CONSTANT,
        "running_mean of b is computed by m",
    ),
    "switched off": Refusal(
        graph(X, BN, "output b"),
        Why.SWITCHED_OFF,
        'b is kept float by set_module_name("b")',
        _Resolution(None, 'set_module_name("b")'),
    ),
    "no qconfig": Refusal(graph(X, BN, "output b"), Why.NO_QCONFIG, "b has no qconfig", _Resolution(None, "", explicit=False)),
    "no mapping, as in fuse_fx": Refusal(graph(X, BN, "output b"), Why.NO_QCONFIG, "b has no qconfig", None),
    "two dimensions": Refusal(
        graph("x: f32[5, 4] = input", "b: f32[5, 4] = batch_norm(x, @b.mean[4], @b.var[4])", "output b"),
        Why.NOT_FUSABLE,
        "b has not 3 to 5 dimensions",
    ),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_near_miss(case: Refusal) -> None:
    module = prepared(case.graph, case.resolution)
    before = print_graph(module)
    assert rewrite(module, DECOMPOSITIONS) == []
    assert print_graph(module) == before
    (node,) = (node for node in module.graph.nodes if node.name == "b")
    assert refusals_of(node) == (("bn_as_conv", Reason(case.why, "b", case.detail)),)


def test_statistics_of_every_batch_stay() -> None:
    module = prepared(graph(X, "b: f32[2, 4, 6, 6] = batch_norm(x, None, None, training=True)", "output b"), _Resolution())
    assert rewrite(module, DECOMPOSITIONS) == []


def test_every_guard_of_every_row_objects_to_something() -> None:
    """One near miss for each guard of bn_as_conv; the activations are FUSIONS' own rows."""
    assert {case.why for case in REFUSALS.values()} == {
        Why.TRAINING, Why.NOT_CONSTANT, Why.SWITCHED_OFF, Why.NO_QCONFIG, Why.NOT_FUSABLE,
    }  # fmt: skip
    assert len(RULES["bn_as_conv"].when) == 5
    assert list(RULES) == ["bn_as_conv", *(rule.name for rule in ACTIVATIONS)]
