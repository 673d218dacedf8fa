"""rewrite: one sweep of a table over a graph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch.fx import Node

from fxq.errors import ConfigError
from fxq.graph.annotation import refusals_of
from fxq.graph.module import FxqModule
from fxq.graph.ops import ops_by_name
from fxq.graph.parse import parse_graph
from fxq.graph.reasons import Reason, Why
from fxq.graph.text import print_graph
from fxq.patterns.expressions import Var, op
from fxq.patterns.matcher import Match
from fxq.patterns.rules import Applied, Guard, Rule, rewrite

X = Var("X")


def drop(match: Match) -> Node:
    """op(x) → x, for a node x."""
    source: Node = match.values["X"]
    match.anchor.replace_all_uses_with(source)
    match.anchor.graph.erase_node(match.anchor)
    return source


def become(name: str) -> Callable[[Match], Node]:
    """op(x) → name(x), in the same node."""

    def change(match: Match) -> Node:
        match.anchor.target = ops_by_name()[name].call
        return match.anchor

    return change


def objecting(detail: str, to: str = "") -> Guard:
    """Refuses the node `to`, or every node."""

    def guard(match: Match) -> Reason | None:
        return Reason(Why.NOT_FUSABLE, match.anchor.name, detail) if to in ("", match.anchor.name) else None

    return guard


def graph(*names: str) -> str:
    """A chain of unary ops: n1 = names[0](x), n2 = names[1](n1), ..."""
    values = ["x", *(f"n{number}" for number, _ in enumerate(names, start=1))]
    lines = [f"{after}: f32[4] = {name}({before})\n" for before, after, name in zip(values, values[1:], names, strict=False)]
    return "".join(["x: f32[4] = input\n", *lines, f"output {values[-1]}\n"])


def swept(module: FxqModule, *rules: Rule) -> list[tuple[str, str]]:
    return [(applied.rule, applied.node.name) for applied in rewrite(module, rules)]


def test_a_rule_that_matches_what_it_makes_is_an_error_with_its_name() -> None:
    same = Rule("tanh_tanh", op("tanh")(X), when=(), rewrite=become("tanh"))
    with pytest.raises(ConfigError, match=r"rule 'tanh_tanh'[\s\S]*n1, which it makes and matches again"):
        swept(parse_graph(graph("tanh")), same)
    there, back = (Rule(a, op(a)(X), when=(), rewrite=become(b)) for a, b in (("tanh", "sigmoid"), ("sigmoid", "tanh")))
    with pytest.raises(ConfigError, match=r"rule '(tanh|sigmoid)'"):
        swept(parse_graph(graph("tanh")), there, back)


def test_result_names_rule_and_node() -> None:
    module = parse_graph(graph("relu", "sigmoid"))
    relu = next(node for node in module.graph.nodes if node.name == "n1")
    assert rewrite(module, (Rule("to_tanh", op("relu")(X), (), become("tanh")),)) == [Applied("to_tanh", relu)]
    assert print_graph(module) == graph("tanh", "sigmoid")


def test_sweeps_in_order_of_execution() -> None:
    module = parse_graph(graph("relu", "sigmoid", "relu", "relu"))
    assert swept(module, Rule("to_tanh", op("relu")(X), (), become("tanh"))) == [("to_tanh", "n1"), ("to_tanh", "n3"), ("to_tanh", "n4")]
    assert print_graph(module) == graph("tanh", "sigmoid", "tanh", "tanh")


def test_the_first_rule_that_fits_is_applied() -> None:
    module = parse_graph(graph("relu"))
    first, second = (Rule(f"to_{name}", op("relu")(X), (), become(name)) for name in ("tanh", "silu"))
    assert swept(module, first, second) == [("to_tanh", "n1")]


def test_tries_again_at_the_result_until_no_rule_fits() -> None:
    module = parse_graph(graph("relu"))
    chain = [Rule(f"{a}_{b}", op(a)(X), (), become(b)) for a, b in (("silu", "mish"), ("tanh", "silu"), ("relu", "tanh"))]
    assert swept(module, *chain) == [("relu_tanh", "n1"), ("tanh_silu", "n1"), ("silu_mish", "n1")]
    assert print_graph(module) == graph("mish")


def test_tries_again_at_the_node_that_took_the_anchors_place() -> None:
    """relu(relu(relu(x))): dropping the last one leaves the one before it, which is tried again."""
    module = parse_graph(graph("sigmoid", "relu", "relu", "relu"))
    relu_relu = Rule(
        "relu_relu",
        op("relu", label="outer")(op("relu")(Var("Y"))),
        (),
        lambda match: drop(Match(match.anchor, {}, {"X": match.nodes["relu"]})),
    )
    assert swept(module, relu_relu) == [("relu_relu", "n2"), ("relu_relu", "n2")]
    assert print_graph(module) == graph("sigmoid", "relu")


def test_refusal_is_recorded_at_the_anchor_and_the_next_rule_is_tried() -> None:
    module = parse_graph(graph("relu", "relu"))
    refused = Rule("refused", op("relu")(X), (objecting("not here", to="n2"), objecting("never")), become("silu"))
    assert swept(module, refused, Rule("to_tanh", op("relu")(X), (), become("tanh"))) == [("to_tanh", "n1"), ("to_tanh", "n2")]
    # the first guard that objects speaks
    assert {node.name: refusals_of(node) for node in module.graph.nodes if refusals_of(node)} == {
        "n1": (("refused", Reason(Why.NOT_FUSABLE, "n1", "never")),),
        "n2": (("refused", Reason(Why.NOT_FUSABLE, "n2", "not here")),),
    }


def test_another_solution_is_taken_where_the_first_is_refused() -> None:
    text = "x: f32[4] = input\ny: f32[4] = input\nz: f32[4] = add(x, y)\noutput z\n"
    kept: list[str] = []

    def only_y(match: Match) -> Reason | None:
        kept.append(match.values["X"].name)
        return None if match.values["X"].name == "y" else Reason(Why.NOT_FUSABLE, match.anchor.name, f"X is {match.values['X']}")

    add = op("add", commutative=True)(X, Var("Y"))
    module = parse_graph(text)
    assert swept(module, Rule("take_y", add, (only_y,), drop)) == [("take_y", "y")]
    assert kept == ["x", "y"]
    assert print_graph(module) == "x: f32[4] = input\ny: f32[4] = input\noutput y\n"


def test_of_several_refused_solutions_the_one_as_written_speaks() -> None:
    module = parse_graph("x: f32[4] = input\ny: f32[4] = input\nz: f32[4] = add(x, y)\noutput z\n")
    add = op("add", commutative=True)(X, Var("Y"))
    rule = Rule("never", add, (lambda match: Reason(Why.NOT_FUSABLE, match.anchor.name, f"X is {match.values['X']}"),), drop)
    assert swept(module, rule) == []
    assert [refusals_of(node) for node in module.graph.nodes if node.name == "z"] == [(("never", Reason(Why.NOT_FUSABLE, "z", "X is x")),)]


def test_what_is_read_no_more_goes_with_its_tensors() -> None:
    module = parse_graph(
        "x: f32[4] = input\nw: f32[4] = mul(@a.w[4], @a.v[4])\ny: f32[4] = add(x, w)\nz: f32[4] = sub(y, @b[4])\noutput z\n"
    )
    assert swept(module, Rule("drop_add", op("add")(X, Var("Y")), (), drop)) == [("drop_add", "x")]
    assert print_graph(module) == "x: f32[4] = input\nz: f32[4] = sub(x, @b[4])\noutput z\n"
    assert list(module.state_dict()) == ["b"]


def test_what_fxq_does_not_know_stays_though_nobody_reads_it() -> None:
    text = "x: f32[4] = input\nseen: f32[4] = call torch.neg(x)\ny: f32[4] = relu(x)\noutput y\n"
    module = parse_graph(text)
    rewrite(module, (Rule("drop_relu", op("relu")(X), (), drop),))
    assert print_graph(module) == "x: f32[4] = input\nseen: f32[4] = call torch.neg(x)\noutput x\n"


def test_a_table_that_fits_nowhere_changes_nothing() -> None:
    text = "x: f32[4] = input\nunread: f32[4] = sigmoid(x)\ny: f32[4] = relu(x)\noutput y\n"
    module = parse_graph(text)
    assert swept(module, Rule("never", op("tanh")(X), (), drop)) == []
    assert print_graph(module) == text
    assert all(refusals_of(node) == () for node in module.graph.nodes)
