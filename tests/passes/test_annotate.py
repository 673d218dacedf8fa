"""int8 or float for every node, and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.graph.annotation import quant_of
from fxq.graph.qtypes import QuantSpec
from fxq.graph.reasons import Why
from fxq.graph.text import print_graph
from fxq.observers import MinMaxObserver, PerChannelMinMaxObserver
from fxq.passes import Context
from fxq.passes.annotate import annotate
from fxq.passes.trace import trace
from fxq.passes.whole import TraceOptions, Whole
from fxq.qconfig_mapping import QConfig, QConfigMapping
from tests.passes.cases import EVERYTHING, PER_CHANNEL, X86, decisions, parsed, ramp, residual, up_to

INPUT = "x: f32[1, 2, 4, 4] = input"
CONV = "conv(x, @c.weight[2, 2, 1, 1], @c.bias[2])"
FLOAT_ONLY = "float-only op: softmax has no integer form"
MOVES_BESIDE_FLOAT = "only float readers: computes nothing on its elements, and no int8 op reads its result"
IS_INPUT = "reads no element: is an input"


def decided(lines: str, mapping: QConfigMapping = EVERYTHING, profile: str = "x86") -> dict[str, str]:
    return decisions(up_to("annotate", parsed(lines), mapping, profile))


def decided_for(forward: Callable[..., object], *inputs: Tensor, training: bool = False, **modules: nn.Module) -> dict[str, str]:
    """Decisions on a model with these submodules and this forward."""
    model: nn.Module = type("Model", (nn.Module,), {"forward": forward})()
    for name, module in modules.items():
        model.add_module(name, module)
    return decisions(up_to("annotate", trace(model.train(training), inputs)))


def test_a_network() -> None:
    module = trace(residual(), torch.zeros(2, 3, 8, 8))
    graph = print_graph(up_to("fuse", trace(residual(), torch.zeros(2, 3, 8, 8))))
    assert decisions(up_to("annotate", module)) == {
        "x": IS_INPUT, "stem_conv": "int8", "body_0_conv": "int8", "body_1": "int8", "pool": "int8", "flatten": "int8",
        "fc": "int8 → float",
    }  # fmt: skip
    assert print_graph(module) == graph


def test_a_second_run_changes_nothing() -> None:
    module = up_to("annotate", trace(residual(), torch.zeros(2, 3, 8, 8)))
    before = {node: quant_of(node) for node in module.graph.nodes}
    annotate(module, Context(X86, EVERYTHING))
    assert {node: quant_of(node) for node in module.graph.nodes} == before


def test_values_are_preserved() -> None:
    x, model = ramp(2, 3, 8, 8), residual()
    assert torch.equal(up_to("annotate", trace(model, x))(x), up_to("fuse", trace(model, x))(x))


def test_specs_of_inputs_weights_and_results() -> None:
    module = up_to("annotate", parsed(f"{INPUT}\nc = {CONV}\ns = silu(c)\noutput s"))
    quants = {node.name: quant_of(node) for node in module.graph.nodes}
    activation, weight = PER_CHANNEL.activation.spec, PER_CHANNEL.weight.spec
    conv, x = quants["c"], quants["x"]
    assert conv is not None
    assert x is not None
    assert (dict(conv.inputs), conv.output, conv.reason) == ({"input": activation, "weight": weight}, activation, None)
    assert conv.rule == "set_global"
    assert (dict(x.inputs), x.output) == ({}, activation)


# --- int8 and float side by side -------------------------------------------------------------------------------------------

CASES = {
    "the last linear writes float": (f"{INPUT}\nl = linear(x, @l.weight[3, 4])\noutput l", {"x": IS_INPUT, "l": "int8 → float"}),
    "an activation behind it is part of it": (
        f"{INPUT}\nl = linear(x, @l.weight[3, 4])\nr = relu(l)\noutput r",
        {"x": IS_INPUT, "l": "int8 → float"},
    ),
    "movement behind it stays float": (
        f"{INPUT}\nl = linear(x, @l.weight[3, 4])\nf = flatten(l)\noutput f",
        {"x": IS_INPUT, "l": "int8 → float", "f": MOVES_BESIDE_FLOAT},
    ),
    "a value read by int8 and float ops is quantized": (
        f"{INPUT}\nc = {CONV}\ns = silu(c)\nt = softmax(c, dim=1)\noutput (s, t, c)",
        {"x": IS_INPUT, "c": "int8", "s": "int8", "t": FLOAT_ONLY},
    ),
    "a float value read by int8 and float ops": (
        f"{INPUT}\nt = softmax(x, dim=1)\nc = {CONV.replace('x', 't')}\nf = flatten(t)\noutput (c, f)",
        {"x": IS_INPUT, "t": FLOAT_ONLY, "c": "int8 → float", "f": MOVES_BESIDE_FLOAT},
    ),
    "pooling follows an int8 op": (
        f"{INPUT}\nc = {CONV}\np = max_pool(c, kernel_size=(2, 2))\noutput p",
        {"x": IS_INPUT, "c": "int8", "p": "int8"},
    ),
    "pooling in front of an int8 op is int8": (
        f"{INPUT}\np = max_pool(x, kernel_size=(2, 2))\nc = {CONV.replace('x', 'p')}\noutput c",
        {"x": IS_INPUT, "p": "int8", "c": "int8 → float"},
    ),
    "pooling between float ops stays float": (
        f"{INPUT}\nt = softmax(x, dim=1)\np = max_pool(t, kernel_size=(2, 2))\nu = softmax(p, dim=1)\noutput u",
        {"x": IS_INPUT, "t": FLOAT_ONLY, "p": MOVES_BESIDE_FLOAT, "u": FLOAT_ONLY},
    ),
    "movement in front of an int8 op": (
        f"{INPUT}\nf = flatten(x, start_dim=1)\nl = linear(f, @l.weight[3, 32])\noutput l",
        {"x": IS_INPUT, "f": "int8", "l": "int8 → float"},
    ),
    "cat of an int8 and a float value": (
        f"{INPUT}\nc = {CONV}\nt = softmax(x, dim=1)\nj = cat((c, t), dim=1)\noutput j",
        {"x": IS_INPUT, "c": "int8", "t": FLOAT_ONLY, "j": "int8"},
    ),
    "shapes are read, not elements": (
        f"{INPUT}\nc = {CONV}\nn = size(c, dim=0)\nf = reshape(c, shape=(n, -1))\nl = linear(f, @l.weight[3, 32])\noutput l",
        {"x": IS_INPUT, "c": "int8", "n": "reads no element: size reads no element", "f": "int8", "l": "int8 → float"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), CASES.values(), ids=CASES)
def test_neighbours(lines: str, expected: dict[str, str]) -> None:
    assert decided(lines) == expected


# --- every kind of refusal -------------------------------------------------------------------------------------------------

SIGNED = QuantSpec("int8", -127, 127, symmetric=True)


def test_no_qconfig() -> None:
    mapping = QConfigMapping().set_object_type(nn.Conv2d, PER_CHANNEL)
    found = decided(f"{INPUT}\nc = {CONV}\ns = silu(c)\noutput s", mapping)
    assert found == {"x": IS_INPUT, "c": "int8 → float", "s": "no qconfig: no rule of the QConfigMapping gives it a qconfig"}


def test_switched_off() -> None:
    mapping = QConfigMapping().set_global(PER_CHANNEL).set_module_name("c", None)
    found = decided(f"{INPUT}\nc = {CONV}\ns = silu(c)\noutput s", mapping)
    assert found == {"x": IS_INPUT, "c": 'switched off: kept float by set_module_name("c")', "s": "int8"}


def test_unknown_op() -> None:
    found = decided_for(lambda self, x: torch.sort(torch.cumsum(x, 1))[0], torch.ones(2, 3))
    assert found["cumsum"] == "unknown op: cumsum is not an op that fxq knows"
    assert found["sort"] == "unknown op: sort is not an op that fxq knows"


def test_a_form_that_the_op_does_not_cover() -> None:
    pool = nn.MaxPool2d(2, return_indices=True)
    found = decided_for(lambda self, x: self.pool(x)[0], torch.ones(1, 1, 4, 4), pool=pool)
    reason = "operand: MaxPool2d is called in a form that max_pool does not cover: return_indices has no integer form"
    assert found["pool"] == reason


def test_float_only() -> None:
    found = decided_for(lambda self, x: self.norm(x), torch.ones(2, 3), norm=nn.BatchNorm1d(3))
    assert found["norm"] == "float-only op: batch_norm has no integer form"


def test_dtype() -> None:
    found = decided("x: f64[2, 3] = input\ns = silu(x)\noutput s")
    assert found["s"] == "dtype: its input is torch.float64, not float32"
    found = decided("x: i64[2, 3] = input\na = add(x, x)\noutput a")
    assert found["a"] == "dtype: its input is torch.int64, not float32"


def test_changed_in_place() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        y = self.conv(x)
        y.fill_(0.5)
        return torch.nn.functional.silu(y)

    found = decided_for(forward, torch.ones(1, 2, 4, 4), conv=nn.Conv2d(2, 2, 1))
    advice = "is changed in place by fill_; use the out-of-place form"
    assert found["conv"] == f"changed in place: conv {advice}"
    assert found["silu"] == f"changed in place: conv {advice}"


def test_weight_that_is_computed() -> None:
    lines = "x: f32[2, 3] = input\nw: f32[4, 3] = input\nl = linear(x, w)\noutput l"
    assert decided(lines)["l"] == "not a constant: its weight is computed by w, not a constant of the model"


def test_bias_that_is_computed() -> None:
    lines = "x: f32[2, 3] = input\nb: f32[4] = input\nl = linear(x, @l.weight[4, 3], b)\noutput l"
    assert decided(lines)["l"] == "not a constant: its bias is computed by b, not a constant of the model"


def test_attribute_that_is_computed() -> None:
    lines = f"{INPUT}\nn = size(x, dim=0)\nk = clamp(x, min=n)\nc = {CONV.replace('x', 'k')}\noutput c"
    assert decided(lines)["k"].startswith("not a constant: its min is computed by n")


def test_number_as_operand() -> None:
    assert decided(f"{INPUT}\na = add(x, 2)\noutput a")["a"] == "operand: its other is the number 2"


def test_constant_as_operand() -> None:
    assert decided(f"{INPUT}\na = mul(x, @scale[2, 1, 1])\noutput a")["a"] == "operand: its other is the constant scale"


def test_profile_takes_no_int8_activations_on_x86() -> None:
    mapping = QConfigMapping().set_global(QConfig(activation=MinMaxObserver.with_args(spec=SIGNED), weight=PerChannelMinMaxObserver))
    lines = f"{INPUT}\nc = {CONV}\noutput c"
    found = decided(lines, mapping)["c"]
    assert found == f"profile: profile x86 takes activations as uint8 per tensor, the qconfig asks for {SIGNED}"
    assert decided(lines, mapping, "qnnpack")["c"] == "int8 → float"


def test_profile_takes_weights_symmetric_only() -> None:
    affine = QuantSpec("int8", -128, 127)
    mapping = QConfigMapping().set_global(QConfig(activation=MinMaxObserver, weight=MinMaxObserver.with_args(spec=affine)))
    found = decided(f"{INPUT}\nc = {CONV}\noutput c", mapping)["c"]
    wanted = "int8 symmetric per tensor or per channel 0"
    assert found == f"profile: profile x86 takes weights as {wanted}, the qconfig asks for {affine}"


def test_module_hooks() -> None:
    conv = nn.Conv2d(2, 2, 1)
    conv.register_forward_hook(lambda module, args, result: result * 2)
    found = decided_for(lambda self, x: self.conv(x), torch.ones(1, 2, 4, 4), conv=conv)
    advice = "which an int8 op would not run; remove them or use parametrizations"
    assert found["conv"] == f"module hooks: its module has forward hooks, {advice}"


def test_dropout_that_drops() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        dropped: Tensor = self.fc(self.drop(self.fc(x)))
        return dropped

    modules = {"fc": nn.Linear(3, 3), "drop": nn.Dropout()}
    found = decided_for(forward, torch.ones(2, 3), training=True, **modules)
    assert found["drop"] == "training mode: it is in training mode; call model.eval() before prepare_fx"
    assert decided_for(forward, torch.ones(2, 3), **modules)["drop"] == "int8"


def test_border_that_is_not_zero() -> None:
    lines = f"{INPUT}\np = pad(x, pad=(1, 1), value=3.0)\nc = {CONV.replace('x', 'p')}\noutput c"
    assert decided(lines)["p"] == "operand: its border is 3.0, and the range of its input need not contain that"
    assert decided(lines.replace(", value=3.0", ""))["p"] == "int8"


def test_clamp_to_bounds_that_the_input_need_not_reach() -> None:
    lines = f"{INPUT}\nk = clamp(x, BOUNDS)\nc = {CONV.replace('x', 'k')}\noutput c"
    reason = "leave 0 out, and the range of its input need not reach that far"
    assert decided(lines.replace("BOUNDS", "min=0.5"))["k"] == f"operand: its bounds, 0.5 and None, {reason}"
    assert decided(lines.replace("BOUNDS", "min=-3, max=-1"))["k"] == f"operand: its bounds, -3 and -1, {reason}"
    assert decided(lines.replace("BOUNDS", "min=-0.5, max=0.5"))["k"] == "int8"
    assert decided(lines.replace("BOUNDS", "min=0, max=6"))["k"] == "int8"


def test_movement_between_float_ops() -> None:
    assert decided(f"{INPUT}\nf = flatten(x)\noutput f")["f"] == MOVES_BESIDE_FLOAT


def test_what_computes_no_tensor() -> None:
    found = decided_for(lambda self, x: x.reshape(x.shape[0] * 1, -1), torch.ones(2, 3))
    assert found["getitem"] == "reads no element: computes no tensor"


def test_custom_modules_quantize_themselves_where_they_are_asked_to() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh()))
    options = TraceOptions(whole=(Whole("1", Why.CUSTOM, "set_float_to_observed_mapping"),))
    asked = decisions(up_to("annotate", trace(model, torch.zeros(2, 4), options)))
    unasked = decisions(
        up_to("annotate", trace(model, torch.zeros(2, 4), options), QConfigMapping().set_object_type(nn.Linear, PER_CHANNEL))
    )
    assert asked["_1"] == "custom module: is kept whole by set_float_to_observed_mapping"
    assert unasked["_1"] == "no qconfig: no rule of the QConfigMapping gives it a qconfig"


def test_a_model_without_a_mapping_stays_float() -> None:
    module = up_to("annotate", trace(residual(), ramp(2, 3, 8, 8)), QConfigMapping())
    assert set(decisions(module).values()) == {IS_INPUT, "no qconfig: no rule of the QConfigMapping gives it a qconfig"}


# the modules that give annotate its reasons; others refuse rewrites, fall back when tracing, or find an overflow when lowering
_ASKED = ("passes/annotate.py", "passes/refusals.py", "graph/ops.py", "graph/profile.py")


def test_every_kind_of_reason_is_provoked_here() -> None:
    package, here = Path(fxq.__file__).parent, Path(__file__).read_text()
    given = {kind for name in _ASKED for kind in re.findall(r"Why\.([A-Z_]+)", (package / name).read_text())}
    assert len(given) >= 10
    assert [kind for kind in sorted(given) if f"{Why[kind].value}: " not in here] == []
