"""Each promise of a stage, broken once; and what the message says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch.fx import Node

from fxq.graph.annotation import NodeQuant, quant_of, set_quant, set_type, type_of
from fxq.graph.constants import put_module, read_constant
from fxq.graph.module import FxqModule
from fxq.graph.parse import parse_graph
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_TENSOR
from fxq.graph.reasons import Reason, Why
from fxq.graph.stages import Stage
from fxq.graph.verify import CHECKS, OBSERVER_RULE, VerificationError, View, verify

FLOATS = """
x: f32[2, 3] = input
l: f32[2, 4] = linear(x, @l.weight[4, 3], @l.bias[4])
r: f32[2, 4] = relu(l)
s = size(r)
output (r, s)
"""
REFERENCE = """
x: f32[2, 3] = input
u: u8[2, 3] = input
q: u8[2, 3] = quantize(x, scale=0.5, zero_point=0)
d: f32[2, 3] = dequantize(q, scale=0.5, zero_point=0)
l: f32[2, 4] = linear(d, @l.weight[4, 3])
n: f32[2, 4] = call torch.neg(l)
m: u8[3, 2] = transpose(q, dim0=0, dim1=1)
k = size(q)
output (n, m, k)
"""
UNKNOWN = NodeQuant(reason=Reason(Why.UNKNOWN_OP, "", ""))


def annotated(text: str = FLOATS) -> FxqModule:
    """Every value in a group of its own."""
    module = parse_graph(text)
    for number, node in enumerate(module.graph.nodes):
        if node.op not in ("get_attr", "output"):
            set_quant(node, NodeQuant(output=ACTIVATION, group=number))
    return module


def observed(text: str = FLOATS) -> FxqModule:
    """The same, with an observer of x and one of l."""
    module = annotated(text)
    for name in ("x", "l"):
        observe(module, name)
    return module


def observe(module: FxqModule, name: str, path: str = "") -> None:
    path = path or f"{name}_observer"
    put_module(module, path, torch.nn.Identity())
    value = node(module, name)
    with module.graph.inserting_after(value):
        observer = module.graph.call_module(path, (value,))
    set_type(observer, type_of(value))
    quant = quant_of(value)
    assert quant is not None
    set_quant(observer, NodeQuant(output=quant.output, group=quant.group, rule=OBSERVER_RULE))


def node(module: FxqModule, name: str) -> Node:
    return next(each for each in module.graph.nodes if each.name == name)


GOOD: dict[Stage, Callable[[], FxqModule]] = {
    Stage.TRACED: lambda: parse_graph(FLOATS),
    Stage.FUSED: lambda: parse_graph(FLOATS),
    Stage.ANNOTATED: annotated,
    Stage.OBSERVED: observed,
    Stage.REFERENCE: lambda: parse_graph(REFERENCE),
    Stage.LOWERED: lambda: parse_graph(REFERENCE),
}


@pytest.mark.parametrize("stage", list(Stage), ids=lambda stage: stage.name)
def test_a_good_graph_is_verified(stage: Stage) -> None:
    verify(GOOD[stage](), stage, "a_pass")


@dataclass(frozen=True)
class Broken:
    """A good graph of a stage, what is done to it, and the promise that this breaks."""

    stage: Stage
    change: Callable[[FxqModule], object]
    promise: str


def _quant(name: str, **fields: object) -> Callable[[FxqModule], None]:
    return lambda module: set_quant(node(module, name), NodeQuant(**fields))  # type: ignore[arg-type]


def _untyped(name: str) -> Callable[[FxqModule], None]:
    return lambda module: set_type(node(module, name), None)


def _reads(reader: str, value: str) -> Callable[[FxqModule], object]:
    return lambda module: setattr(node(module, reader), "args", (node(module, value), *node(module, reader).args[1:]))


def _int8(name: str) -> Callable[[FxqModule], None]:
    return _quant(name, inputs={"input": ACTIVATION, "weight": WEIGHT_PER_TENSOR}, output=ACTIVATION, group=1)


def _same_group(module: FxqModule) -> None:
    quant = quant_of(node(module, "l"))
    assert quant is not None
    set_quant(node(module, "r"), NodeQuant(output=WEIGHT_PER_TENSOR, group=quant.group))


def _two_observers(module: FxqModule) -> None:
    observe(module, "x", "another")


def _int8_reads_float(module: FxqModule) -> None:
    _reads("l", "x")(module)
    _int8("l")(module)


BROKEN = {
    "an operand that comes later": Broken(
        Stage.TRACED, lambda module: node(module, "r").append(node(module, "l")), "r reads l, which is not computed before"
    ),
    "a node of another graph": Broken(
        Stage.TRACED,
        lambda module: setattr(node(module, "r"), "args", (node(parse_graph(FLOATS), "x"),)),
        "r reads x, which is not computed before",
    ),
    "two nodes of a name": Broken(Stage.TRACED, lambda module: setattr(node(module, "r"), "name", "l"), "l has the name of another node"),
    "a tensor that is gone": Broken(
        Stage.TRACED, lambda module: delattr(module.l, "bias"), "l_bias refers to l.bias, which is no tensor of the model"
    ),
    "a call of what is no module": Broken(
        Stage.OBSERVED,
        lambda module: setattr(node(module, "x_observer"), "target", "l.bias"),
        "x_observer refers to l.bias, which is no module of the model",
    ),
    "an op without type": Broken(Stage.FUSED, _untyped("l"), "l has no shape and dtype"),
    "a constant without type": Broken(Stage.FUSED, _untyped("l_weight"), "l_weight has no shape and dtype"),
    "a tensor that is read twice": Broken(
        Stage.FUSED, lambda module: read_constant(node(module, "r"), "l.weight"), "l_weight_1 reads l.weight once more"
    ),
    "a node without annotation": Broken(Stage.ANNOTATED, lambda module: node(module, "r").meta.pop("fxq_quant"), "r has no NodeQuant"),
    "two specs in a group": Broken(
        Stage.ANNOTATED,
        _same_group,
        "r asks for int8 -127..127 symmetric per tensor in group 3, which has uint8 0..255 affine per tensor",
    ),
    "quantized without group": Broken(
        Stage.OBSERVED, _quant("r", output=ACTIVATION), "r is quantized without a sharing group, or has a group without being quantized"
    ),
    "group without being quantized": Broken(
        Stage.OBSERVED, _quant("r", group=9), "r is quantized without a sharing group, or has a group without being quantized"
    ),
    "two observers in a group": Broken(Stage.OBSERVED, _two_observers, "x_observer is a second observer of group 0"),
    "an observer that is left": Broken(
        Stage.REFERENCE,
        lambda module: (set_quant(node(module, "x"), NodeQuant(output=ACTIVATION, group=0)), observe(module, "x")),
        "x_observer is an observer",
    ),
    "a float op that reads integers": Broken(Stage.REFERENCE, _reads("l", "q"), "l reads integers (input)"),
    "dequantize of floats": Broken(Stage.REFERENCE, _reads("d", "x"), "d reads floats"),
    "quantize of integers": Broken(Stage.LOWERED, _reads("q", "u"), "q reads integers (input)"),
    "an int8 op that reads floats": Broken(Stage.REFERENCE, _int8_reads_float, "l is int8, but input does not come from dequantize"),
    "an int8 op that is not lowered": Broken(Stage.LOWERED, _int8("l"), "l is int8 and still a float op"),
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN)
def test_a_broken_promise_is_found(case: Broken) -> None:
    module = GOOD[case.stage]()
    case.change(module)
    with pytest.raises(VerificationError) as caught:
        verify(module, case.stage, "some_pass")
    assert str(caught.value).splitlines()[0] == f"some_pass breaks a promise of stage {case.stage.name}: {case.promise}"


def test_the_message_shows_the_node_between_its_neighbours() -> None:
    module = parse_graph(FLOATS)
    set_type(node(module, "r"), None)
    with pytest.raises(VerificationError) as caught:
        verify(module, Stage.FUSED, "my_pass")
    assert str(caught.value).splitlines() == [
        "my_pass breaks a promise of stage FUSED: r has no shape and dtype",
        "    l = linear(x, @l.weight[4, 3], @l.bias[4])",
        "  > r = relu(l)",
        "    s = size(r)",
    ]
    with pytest.raises(VerificationError, match=r"^the graph breaks a promise of stage FUSED: r has no shape and dtype"):
        verify(module, Stage.FUSED)


def test_a_node_kept_float_is_no_op_to_lower() -> None:
    module = parse_graph(REFERENCE)
    set_quant(node(module, "l"), NodeQuant({"input": ACTIVATION}, reason=UNKNOWN.reason))
    verify(module, Stage.LOWERED)


def test_every_check_has_a_broken_graph() -> None:
    assert list(CHECKS) == list(Stage)
    found: set[str] = set()
    for case in BROKEN.values():
        module = GOOD[case.stage]()
        case.change(module)
        found |= {check.__name__ for check in CHECKS[case.stage] if list(check(View(module)))}
    assert found == {check.__name__ for checks in CHECKS.values() for check in checks}
