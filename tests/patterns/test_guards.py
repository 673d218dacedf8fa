"""Each guard says yes, or no with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from fxq.graph.annotation import set_resolution
from fxq.graph.parse import parse_graph
from fxq.graph.reasons import Reason, Why
from fxq.patterns import guards as g
from fxq.patterns.expressions import OpPattern, Var, op
from fxq.patterns.matcher import Match, match
from fxq.patterns.rules import Guard
from fxq.qconfig_mapping import default_dynamic_qconfig, default_qconfig

X, R = Var("X"), Var("R")
RELU = op("relu")(op("conv", "linear", "add", label="held")(X, R))
BN = op("batch_norm")(op("conv")(X))

SCALE = op("mul")(op("conv")(X, Var("W"), Var("B")), Var("C"))

SCALED = "x: f32[1, 2, 4] = input\nc: f32[1, 2, 4] = conv(x, @w[2, 2, 1])\ny: f32[1, 2, 4] = mul(c, @k{})\noutput y"
CONV = "x: f32[1, 2, 4] = input\nc: f32[1, 2, 4] = conv(x, @w[2, 2, 1]{})\ny: f32[1, 2, 4] = relu(c)\noutput y"
SUM = "x: f32[1, 4] = input\nr: {} = input\ns: {} = add(x, r{})\ny: {} = relu(s)\noutput y"
NORM = "x: f32[1, 2, 4] = input\nm: f32[2] = input\nc: f32[1, 2, 4] = conv(x, {})\ny: f32[1, 2, 4] = batch_norm(c, {})\noutput y"
TIMES = "x: f32[2, 4] = input\ny: f32{1} = matmul(x, @k{0})\noutput y"
PRODUCT = op("matmul")(X, Var("C"))


def added(residual: str = "f32[1, 4]", result: str = "f32[1, 4]", attribute: str = "") -> str:
    return SUM.format(residual, result, attribute, result)


def normed(weight: str = "@w[2, 2, 1]", statistics: str = "@a[2], @v[2]") -> str:
    return NORM.format(weight, statistics)


@dataclass(frozen=True)
class Case:
    """A guard asked about the node y of a graph; `why` and `detail` are empty where it does not object."""

    guard: Guard
    graph: str
    why: Why | None = None
    detail: str = ""
    pattern: OpPattern = RELU


CASES = {
    "single_use yes": Case(g.single_use("held"), CONV.format("")),
    "single_use no": Case(g.single_use("held"), CONV.format("").replace("output y", "output (c, y)"), Why.SHARED, "c is read by output, y"),
    "single_use twice by one reader": Case(
        g.single_use("relu"), CONV.format("").replace("output y", "z: f32[1, 2, 4] = mul(y, y)\noutput z"), Why.SHARED, "y is read by z, z"
    ),
    "eval_mode yes": Case(g.eval_mode("batch_norm"), normed(), pattern=BN),
    "eval_mode no": Case(
        g.eval_mode("batch_norm"),
        normed(statistics="@a[2], @v[2], training=True"),
        Why.TRAINING,
        "y is in training mode; call model.eval() first",
        BN,
    ),
    "eval_mode of an op without modes": Case(g.eval_mode("held"), CONV.format("")),
    "computed yes": Case(g.computed("H"), CONV.format(""), pattern=op("relu")(Var("H"))),
    "computed no": Case(
        g.computed("H"),
        "x: f32[2] = input\ny: f32[2] = relu(x)\noutput y\n",
        Why.NOT_FUSABLE,
        "x is no result of a call",
        op("relu")(Var("H")),
    ),
    "bare yes": Case(g.bare("held"), CONV.format(", padding=(0,)")),
    "bare with act": Case(g.bare("held"), CONV.format(", act=relu"), Why.NOT_FUSABLE, "c already has its act fused"),
    "bare with residual": Case(g.bare("held"), CONV.format(", residual=x"), Why.NOT_FUSABLE, "c already has its residual fused"),
    "lets_factors_through yes": Case(g.lets_factors_through("conv", "C"), SCALED.format("[2, 1]"), pattern=SCALE),
    "lets_factors_through no": Case(
        g.lets_factors_through("conv", "C"),
        SCALED.format("[2, 1]").replace("1])", "1], act=relu6)", 1),
        Why.NOT_FUSABLE,
        "c already has its act fused",
        SCALE,
    ),
    "no_activation yes": Case(g.no_activation("held"), CONV.format("")),
    "no_activation with residual": Case(g.no_activation("held"), CONV.format(", residual=x")),
    "no_activation no": Case(g.no_activation("held"), CONV.format(", act=relu6"), Why.NOT_FUSABLE, "c already has an activation fused"),
    "constant yes": Case(g.constant("conv", "weight", "bias"), normed(), pattern=BN),
    "constant of several": Case(g.constant("batch_norm", "running_mean", "running_var", "weight"), normed(), pattern=BN),
    "constant no": Case(
        g.constant("batch_norm", "running_mean", "running_var"),
        normed(statistics="@a[2], m"),
        Why.NOT_CONSTANT,
        "running_var of y is computed by m",
        BN,
    ),
    "constant, not asked about": Case(g.constant("batch_norm", "running_mean"), normed(statistics="@a[2], m"), pattern=BN),
    "numbers yes": Case(
        g.numbers("clamp", "min", "max"), "x: f32[4] = input\ny: f32[4] = clamp(x, min=-1.5, max=2)\noutput y", pattern=op("clamp")
    ),
    "numbers absent": Case(
        g.numbers("clamp", "min", "max"), "x: f32[4] = input\ny: f32[4] = clamp(x, max=2)\noutput y", pattern=op("clamp")
    ),
    "numbers no": Case(
        g.numbers("clamp", "min", "max"),
        "x: f32[4] = input\nm: f32[4] = input\ny: f32[4] = clamp(x, max=m)\noutput y",
        Why.NOT_CONSTANT,
        "max of y is m, not a number",
        op("clamp"),
    ),
    "rank_of_weight yes": Case(g.rank_of_weight("conv"), normed(), pattern=BN),
    "rank_of_weight no": Case(
        g.rank_of_weight("conv"),
        "x: f32[2, 4] = input\nc: f32[2, 4] = conv(x, @w[2, 2, 1])\ny: f32[2, 4] = batch_norm(c, @a[4], @v[4])\noutput y",
        Why.NOT_FUSABLE,
        "c is [2, 4], where dimension 1 is not its channels",
        BN,
    ),
    "per_channel yes": Case(g.per_channel("conv", "C"), SCALED.format("[2, 1]"), pattern=SCALE),
    "per_channel one element": Case(g.per_channel("conv", "C"), SCALED.format("[1]"), pattern=SCALE),
    "per_channel of all elements": Case(
        g.per_channel("conv", "C"),
        SCALED.format("[2, 4]"),
        Why.NOT_FUSABLE,
        "k has not one element for each channel of c",
        SCALE,
    ),
    "per_channel of positions": Case(
        g.per_channel("conv", "C"), SCALED.format("[4]"), Why.NOT_FUSABLE, "k has not one element for each channel of c", SCALE
    ),
    "per_channel of another dtype": Case(
        g.per_channel("conv", "C"),
        SCALED.replace("y: f32", "y: f64").replace("@k{}", "@k[f64, 1]"),
        Why.NOT_FUSABLE,
        "k has not one element for each channel of c",
        SCALE,
    ),
    "same_type yes": Case(g.same_type("held", "R"), added()),
    "same_type broadcast": Case(g.same_type("held", "R"), added("f32[4]"), Why.NOT_FUSABLE, "r has not the shape and dtype of s"),
    "same_type as the result": Case(g.same_type("held", "R"), added("f64[1, 4]", "f64[1, 4]")),
    "same_type number": Case(
        g.same_type("held", "R"), added().replace("add(x, r)", "add(x, 3)"), Why.NOT_FUSABLE, "3 has not the shape and dtype of s"
    ),
    "same_type constant": Case(
        g.same_type("held", "R"), added().replace("add(x, r)", "add(x, @k[1, 4])"), Why.NOT_FUSABLE, "k has not the shape and dtype of s"
    ),
    "has_integer_form yes": Case(g.has_integer_form("relu"), CONV.format("")),
    "has_integer_form no": Case(
        g.has_integer_form("clamp"),
        "x: f32[4] = input\ny: f32[4] = clamp(x, min=1)\noutput y",
        Why.OPERAND,
        "its bounds, 1 and None, leave 0 out, and the range of its input need not reach that far",
        op("clamp"),
    ),
    "rank_from yes": Case(g.rank_from("batch_norm", 3, 5), normed(), pattern=BN),
    "rank_from too few": Case(g.rank_from("batch_norm", 4, 5), normed(), Why.NOT_FUSABLE, "y has not 4 to 5 dimensions", BN),
    "rank_from too many": Case(g.rank_from("held", 1, 2), CONV.format(""), Why.NOT_FUSABLE, "c has not 1 to 2 dimensions"),
    "matrix yes": Case(g.matrix("C"), TIMES.format("[4, 3]", "[2, 3]"), pattern=PRODUCT),
    "matrix no": Case(g.matrix("C"), TIMES.format("[4]", "[2]"), Why.NOT_FUSABLE, "k is [4], not a matrix", PRODUCT),
    "not_normalized yes": Case(g.not_normalized("relu"), CONV.format("")),
    "not_normalized by another op": Case(
        g.not_normalized("relu"),
        CONV.format("").replace("output y", "z: f32[1, 2, 4] = silu(y)\nn: f32[1, 2, 4] = softmax(z, dim=1)\noutput n"),
    ),
    "not_normalized no": Case(
        g.not_normalized("relu"),
        CONV.format("").replace("output y", "z: f32[1, 2, 4] = silu(y)\nn: f32[1, 2, 4] = softmax(y, dim=1)\noutput (n, z)"),
        Why.NOT_FUSABLE,
        "n normalizes y, which stays float for it",
    ),
    "not_normalized behind movement": Case(
        g.not_normalized("relu"),
        CONV.format("").replace("output y", "f: f32[8] = flatten(y)\nd: f32[8] = identity(f)\nn: f32[8] = softmax(d, dim=0)\noutput n"),
        Why.NOT_FUSABLE,
        "n normalizes y, which stays float for it",
    ),
    "equals yes": Case(g.equals("held", "alpha", 1), added()),
    "equals no": Case(g.equals("held", "alpha", 1), added(attribute=", alpha=3"), Why.NOT_FUSABLE, "alpha is 3, not 1"),
}


def matched(pattern: OpPattern, text: str) -> Match:
    nodes = {node.name: node for node in parse_graph(text).graph.nodes}
    found = match(pattern, nodes["y"])
    assert isinstance(found, Match)
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_guard(case: Case) -> None:
    found = matched(case.pattern, case.graph)
    assert case.guard(found) == (None if case.why is None else Reason(case.why, "y", case.detail))


@dataclass(frozen=True)
class _Resolution:
    qconfig: Any
    rule: str = "object type torch.relu → None"
    explicit: bool = True


@pytest.mark.parametrize(
    ("resolution", "refused"),
    [(None, False), (_Resolution(None), True), (_Resolution(None, explicit=False), False), (_Resolution("a qconfig"), False)],
)
def test_not_switched_off(resolution: _Resolution | None, refused: bool) -> None:
    found = matched(RELU, CONV.format(""))
    if resolution is not None:
        set_resolution(found.anchor, resolution)
    expected = Reason(Why.SWITCHED_OFF, "y", "y is kept float by object type torch.relu → None")
    assert g.not_switched_off("relu")(found) == (expected if refused else None)
    assert g.not_switched_off("held")(found) is None


@pytest.mark.parametrize(
    ("resolution", "quantized"),
    [
        (None, False),
        (_Resolution(None), False),
        (_Resolution(default_qconfig, explicit=False), True),
        (_Resolution(default_dynamic_qconfig), False),
    ],
)
def test_is_quantized(resolution: _Resolution | None, quantized: bool) -> None:
    found = matched(RELU, CONV.format(""))
    if resolution is not None:
        set_resolution(found.anchor, resolution)
    assert g.is_quantized("relu")(found) == (None if quantized else Reason(Why.NO_QCONFIG, "y", "y has no qconfig"))
    assert g.is_quantized("held")(found) == Reason(Why.NO_QCONFIG, "y", "c has no qconfig")


@pytest.mark.parametrize(
    ("resolution", "dynamic"), [(None, False), (_Resolution(default_qconfig), False), (_Resolution(default_dynamic_qconfig), True)]
)
def test_not_dynamic(resolution: _Resolution | None, dynamic: bool) -> None:
    found = matched(RELU, CONV.format(""))
    if resolution is not None:
        set_resolution(found.anchor, resolution)
    assert g.not_dynamic("relu")(found) == (Reason(Why.DYNAMIC, "y", "its sum is float, and added in float") if dynamic else None)


def test_every_guard_has_a_yes_and_a_no() -> None:
    guards = {
        name for name, value in vars(g).items() if callable(value) and getattr(value, "__module__", "") == g.__name__ and name[0] != "_"
    }
    answers = {(name.split()[0].rstrip(","), case.why is None) for name, case in CASES.items()}
    assert {(name, answer) for name in guards - {"not_switched_off", "is_quantized", "not_dynamic"} for answer in (True, False)} == answers
