"""int8 or float for every node, and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
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
RESIZE = "interpolate(c, size=(8, 8), mode='bilinear', align_corners=False)"
FLOAT_ONLY = "float-only op: sin needs more of a large angle than 8 bits"
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
        f"{INPUT}\nc = {CONV}\ns = silu(c)\nt = call torch.sin(c)\noutput (s, t, c)",
        {"x": IS_INPUT, "c": "int8", "s": "int8", "t": FLOAT_ONLY},
    ),
    "a float value read by int8 and float ops": (
        f"{INPUT}\nt = call torch.sin(x)\nc = {CONV.replace('x', 't')}\nf = flatten(t)\noutput (c, f)",
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
        f"{INPUT}\nt = call torch.sin(x)\np = max_pool(t, kernel_size=(2, 2))\nu = call torch.sin(p)\noutput u",
        {"x": IS_INPUT, "t": FLOAT_ONLY, "p": MOVES_BESIDE_FLOAT, "u": FLOAT_ONLY},
    ),
    "a resize at the end rounds nothing": (
        f"{INPUT}\nc = {CONV}\nr = {RESIZE}\noutput r",
        {
            "x": IS_INPUT, "c": "int8 → float",
            "r": "only float readers: makes many elements out of few, and no int8 op reads its result",
        },
    ),
    "a resize between int8 ops": (
        f"{INPUT}\nc = {CONV}\nr = {RESIZE}\nd = {CONV.replace('x', 'r')}\noutput d",
        {"x": IS_INPUT, "c": "int8", "r": "int8", "d": "int8 → float"},
    ),
    "movement in front of an int8 op": (
        f"{INPUT}\nf = flatten(x, start_dim=1)\nl = linear(f, @l.weight[3, 32])\noutput l",
        {"x": IS_INPUT, "f": "int8", "l": "int8 → float"},
    ),
    "cat of a convolution's result and a float value for float ops": (
        f"{INPUT}\nc = {CONV}\nt = call torch.sin(x)\nj = cat((c, t), dim=1)\nn = layer_norm(j, normalized_shape=(4,))\noutput n",
        {
            "x": IS_INPUT, "c": "int8 → float", "t": FLOAT_ONLY, "j": MOVES_BESIDE_FLOAT,
            "n": "float input: spreads rounding, and does not stand between int8 ops",
        },
    ),
    "cat of an int8 and a float value for an int8 op": (
        f"{INPUT}\nc = {CONV}\nt = call torch.sin(x)\nj = stack((c, t))\ns = silu(j)\noutput s",
        {"x": IS_INPUT, "c": "int8", "t": FLOAT_ONLY, "j": "int8", "s": "int8"},
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
    found = decided_for(lambda self, x: torch.sort(torch.trace(x) + x)[0], torch.ones(2, 2))
    assert found["trace"] == "unknown op: trace is not an op that fxq knows"
    assert found["sort"] == "float-only op: sort gives indices, also where it gives values as well"


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
    halves = decided_for(lambda self, x: self.fc(x).relu(), torch.ones(2, 3).half(), fc=nn.Linear(3, 4).half())
    remedy = "a graph is quantized after model.float(), and fxq.quantize_dynamic takes layers of any precision"
    assert halves["fc"] == f"dtype: its input is torch.float16, not float32; {remedy}"


def test_changed_in_place() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        y = self.conv(x)
        y.cumsum_(0)
        return torch.nn.functional.silu(y)

    found = decided_for(forward, torch.ones(1, 2, 4, 4), conv=nn.Conv2d(2, 2, 1))
    advice = "is changed in place by cumsum_; use the out-of-place form"
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


def test_number_that_is_not_real() -> None:
    assert decided_for(lambda self, x: x * 1j, torch.ones(2, 3))["mul"] == "operand: its other is the number 1j"


def test_division_by_a_tensor() -> None:
    found = decided(f"{INPUT}\ns = sigmoid(x)\nd = div(x, s)\nq = div(1, s)\nc = {CONV.replace('x', 'd')}\noutput (c, q)")
    assert (found["d"], found["q"]) == tuple(f"operand: it divides by {divisor}, not by a number" for divisor in ("s", "s"))


# --- numbers and constants -------------------------------------------------------------------------------------------------

ALONE = "only float readers: only adds, multiplies or divides by a number, and no int8 op reads its result"
WITH_NUMBERS = {
    "at the end": (f"{INPUT}\nc = {CONV}\na = add(c, 2)\noutput a", {"c": "int8 → float", "a": ALONE}),
    "in front of an int8 op": (f"{INPUT}\na = mul(x, 0.5)\nc = {CONV.replace('x', 'a')}\noutput c", {"a": "int8", "c": "int8 → float"}),
    "the number first": (f"{INPUT}\na = sub(1, x)\nc = {CONV.replace('x', 'a')}\noutput c", {"a": "int8", "c": "int8 → float"}),
    "between int8 ops, with an activation": (
        f"{INPUT}\nc = {CONV}\na = add(c, 3)\nr = clamp(a, min=0.0, max=6.0)\nd = div(r, 6)\nm = mul(c, d)\noutput m",
        {"c": "int8", "a": "int8", "d": "int8", "m": "int8"},
    ),
    "a chain of them, and nothing that computes": (
        f"{INPUT}\nc = {CONV}\na = mul(c, 2)\nb = sub(a, 1)\nf = flatten(b)\noutput f",
        {"c": "int8 → float", "a": ALONE, "b": ALONE, "f": MOVES_BESIDE_FLOAT},
    ),
    "in front of a float op": (
        f"{INPUT}\nc = {CONV}\na = mul(c, 2)\nt = call torch.sin(a)\noutput t",
        {"c": "int8 → float", "a": ALONE, "t": FLOAT_ONLY},
    ),
    "read by an int8 and a float op": (
        f"{INPUT}\na = mul(x, 2)\ns = silu(a)\nt = call torch.sin(a)\noutput (s, t)",
        {"a": "int8", "s": "int8", "t": FLOAT_ONLY},
    ),
    "what wants it stays float": (
        f"{INPUT}\na = mul(x, 2)\nf = flatten(a)\nt = call torch.sin(f)\noutput t",
        {"a": ALONE, "f": MOVES_BESIDE_FLOAT, "t": FLOAT_ONLY},
    ),
    "a constant is an operand like another": (f"{INPUT}\na = mul(x, @scale[2, 1, 1])\noutput a", {"a": "int8"}),
    "a constant first": (f"{INPUT}\nj = cat((@token[1, 2, 1, 4], x), dim=2)\ns = silu(j)\noutput s", {"j": "int8", "s": "int8"}),
}


@pytest.mark.parametrize(("lines", "expected"), WITH_NUMBERS.values(), ids=WITH_NUMBERS)
def test_numbers_and_constants(lines: str, expected: dict[str, str]) -> None:
    assert decided(lines) == {"x": IS_INPUT, **expected}


def test_a_constant_is_quantized_as_its_reader_says() -> None:
    module = up_to("annotate", parsed(f"{INPUT}\na = mul(x, @scale[2, 1, 1])\noutput a"))
    (scale,) = module.graph.find_nodes(op="get_attr")
    (a,) = (node for node in module.graph.nodes if node.name == "a")
    of_scale, of_a = quant_of(scale), quant_of(a)
    assert of_scale is not None and of_a is not None and of_scale.reason is not None
    assert (dict(of_scale.inputs), of_scale.output) == ({}, PER_CHANNEL.activation.spec)
    assert (of_scale.reason.why, of_scale.reason.detail) == (Why.NO_ELEMENTS, "is a constant of the model")
    assert dict(of_a.inputs) == {"input": PER_CHANNEL.activation.spec, "other": PER_CHANNEL.activation.spec}


# --- parts of a split ------------------------------------------------------------------------------------------------------


def test_parts_of_a_split_follow_their_readers_each_for_itself() -> None:
    found = decided(
        f"{INPUT}\nc = {CONV}\na = chunk(c, chunks=2, dim=1)\nb = chunk(c, chunks=2, dim=1, item=-1)\n"
        "s = silu(a)\nt = call torch.sin(b)\noutput (s, t)"
    )
    assert found == {"x": IS_INPUT, "c": "int8", "a": "int8", "b": MOVES_BESIDE_FLOAT, "s": "int8", "t": FLOAT_ONLY}


@pytest.mark.parametrize(
    "part", ["split(c, split_size=(1, 1), dim=1, item=1)", "unbind(c, dim=1, item=-1)", "expand(c, sizes=(3, -1, -1, -1))"]
)
def test_other_movement_between_int8_ops(part: str) -> None:
    assert decided(f"{INPUT}\nc = {CONV}\np = {part}\ns = silu(p)\noutput s")["p"] == "int8"


# --- ops that normalize ----------------------------------------------------------------------------------------------------

FLOAT_INPUT = "float input: spreads rounding, and does not stand between int8 ops"
NORMALIZED = {
    "softmax between int8 ops": (f"{INPUT}\nc = {CONV}\nt = softmax(c, dim=1)\nm = mul(t, c)\noutput m", "int8"),
    "behind movement": (f"{INPUT}\nc = {CONV}\nu = silu(c)\nf = flatten(u)\nt = softmax(f, dim=0)\ns = silu(t)\noutput s", "int8"),
    "at the end": (f"{INPUT}\nc = {CONV}\nt = softmax(c, dim=1)\noutput t", FLOAT_INPUT),
    "of the model's input": (f"{INPUT}\nt = softmax(x, dim=1)\nc = {CONV.replace('x', 't')}\noutput c", FLOAT_INPUT),
    "of a sum": (
        f"{INPUT}\nc = {CONV}\na = sub(x, c)\nt = layer_norm(a, normalized_shape=(4,))\ns = silu(t)\noutput s",
        FLOAT_INPUT,
    ),
    "of a convolution, which can write floats": (
        f"{INPUT}\nc = {CONV}\nt = group_norm(c, num_groups=2)\ns = silu(t)\noutput s",
        FLOAT_INPUT,
    ),
    "of a convolution that others read in 8 bits": (
        f"{INPUT}\nc = {CONV}\nt = group_norm(c, num_groups=2)\ns = silu(t)\nu = silu(c)\noutput (s, u)",
        "int8",
    ),
}


@pytest.mark.parametrize(("lines", "expected"), NORMALIZED.values(), ids=NORMALIZED)
def test_ops_that_normalize(lines: str, expected: str) -> None:
    assert decided(lines)["t"] == expected


def test_pooling_stays_float_where_the_op_that_wanted_it_does() -> None:
    lines = f"{INPUT}\nt = call torch.sin(x)\np = max_pool(t, kernel_size=(2, 2))\nu = softmax(p, dim=1)\noutput u"
    assert decided(lines) == {"x": IS_INPUT, "t": FLOAT_ONLY, "p": MOVES_BESIDE_FLOAT, "u": FLOAT_INPUT}


def test_a_sum_that_float_ops_read_stays_float() -> None:
    """A residual stream: its readers are a norm, which is float then, and the next sum."""
    lines = f"{INPUT}\nc = {CONV}\na = add(x, c, alpha=2)\nn = layer_norm(a, normalized_shape=(4,))\nb = add(a, n)\ns = silu(b)\noutput s"
    reason = "only float readers: float ops read its result, and no int8 op gains from rounding it"
    found = decided(lines)
    assert (found["a"], found["n"], found["b"]) == (reason, FLOAT_INPUT, "int8")


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
    assert "drop" not in decided_for(forward, torch.ones(2, 3), **modules)


def test_border_that_is_not_zero() -> None:
    lines = f"{INPUT}\np = pad(x, pad=(1, 1), value=3.0)\ns = silu(p)\noutput s"
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


def test_a_float_value_is_multiplied_with_a_constant_before_it_is_rounded() -> None:
    """As it stands behind a norm whose features are smoothed: rounding twice would gain nothing."""

    class Smoothed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factors, self.fc = nn.Parameter(torch.ones(4)), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(torch.cumsum(x, 1) * self.factors)
            return y

    found = decisions(up_to("annotate", trace(Smoothed(), torch.zeros(2, 4))))
    assert found["mul"] == "float input: float ops make its operands, and rounding them first would gain nothing"
    assert found["fc"] == "int8 → float"


def test_ops_beside_weights_in_few_bits_stay_float() -> None:
    mapping = QConfigMapping().set_global(fxq.weight_only_qconfig())
    module = up_to("annotate", trace(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.zeros(2, 4)), mapping)
    assert decisions(module)["_1"] == "weight-only qconfig: tanh has no form with weights in few bits"


def test_ops_beside_dynamic_layers_stay_float() -> None:
    mapping = QConfigMapping().set_global(fxq.default_dynamic_qconfig)
    module = up_to("annotate", trace(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.zeros(2, 4)), mapping)
    expected = "dynamic qconfig: tanh is not quantized as its input arrives: that is for layers with weights"
    assert decisions(module)["_1"] == expected
    linear = quant_of(next(node for node in module.graph.nodes if node.name == "_0"))
    assert linear is not None and linear.is_dynamic and linear.output is None


def test_convolutions_are_dynamic_where_a_rule_speaks_of_them() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.weight = nn.Conv1d(4, 4, 1), nn.Parameter(torch.zeros(4, 4, 1))

        def forward(self, x: Tensor) -> Tensor:
            return F.conv1d(self.conv(x), self.weight)

    def found(mapping: QConfigMapping) -> list[str]:
        decided = decisions(up_to("annotate", trace(Pair().eval(), torch.zeros(2, 4, 5)), mapping))
        return [decided[name] for name in ("conv", "conv1d")]

    every = QConfigMapping().set_global(fxq.per_row_dynamic_qconfig)
    why = (
        "another qconfig: the range of its input, found as it arrives, mostly takes longer than int8 gains, so a QConfig for all leaves it "
        'float; a rule of its own, such as set_object_type("{}", ...), makes it int8'
    ).format
    module, function = why("torch.nn.Conv1d"), why("torch.conv1d")
    assert found(every) == [module, function]
    assert found(every.set_object_type(F.conv1d, fxq.default_dynamic_qconfig)) == [module, "int8 → float"]
    assert found(every.set_module_name("conv", fxq.default_dynamic_qconfig)) == ["int8 → float"] * 2


def test_modules_that_are_called_whole_say_which_qconfig_they_need() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag, self.gru = nn.EmbeddingBag(9, 4), nn.GRU(4, 4)

        def forward(self, words: Tensor) -> Tensor:
            y: Tensor = self.gru(self.bag(words))[0]
            return y

    def reasons(qconfig: fxq.QConfig | None) -> list[str]:
        found = decisions(up_to("annotate", trace(Pair().eval(), words), QConfigMapping().set_global(qconfig)))
        return [found[name] for name in ("bag", "gru")]

    words = torch.zeros(2, 4, dtype=torch.int64)
    how = "another qconfig: {0} has no form under this QConfig; set_object_type(nn.{0}, fxq.{1}) gives it one".format
    bag, gru = how("EmbeddingBag", "float_qparams_weight_only_qconfig"), how("GRU", "per_channel_dynamic_qconfig")
    assert reasons(fxq.default_qconfig) == [bag, gru]
    assert reasons(fxq.per_row_dynamic_qconfig) == [bag, "int8 → float"]
    assert reasons(fxq.weight_only_qconfig(8, 0)) == ["int8 → float"] * 2
    assert reasons(None) == ["switched off: kept float by set_global"] * 2


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
