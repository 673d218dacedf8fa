"""match and all_matches, against subgraph isomorphism by networkx, and the amount of work they do."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import networkx as nx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networkx.algorithms.isomorphism import DiGraphMatcher
from torch.fx import Graph, Node

from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call, OpDef
from fxq.graph.ops import call_of, op_of, ops_by_name, write_call
from fxq.graph.parse import parse_graph
from fxq.graph.spellings import normal_form
from fxq.patterns import matcher, rules
from fxq.patterns.expressions import OpPattern, Pattern, Var, op, size_of
from fxq.patterns.fusions import FUSIONS
from fxq.patterns.matcher import Match, Mismatch, all_matches, match
from fxq.patterns.rules import rewrite

# --- by hand ---------------------------------------------------------------------------------------------------------------

X, Y, W, B = Var("X"), Var("Y"), Var("W"), Var("B")
conv, relu, sigmoid, mul = op("conv"), op("relu"), op("sigmoid"), op("mul")
add = op("add", commutative=True)

MODULE = parse_graph(
    """
    x: f32[1, 2, 4] = input
    c: f32[1, 2, 4] = conv(x, @w[2, 2, 1])
    r: f32[1, 2, 4] = relu(c)
    s: f32[1, 2, 4] = sigmoid(r)
    a: f32[1, 2, 4] = add(s, c)
    m: f32[1, 2, 4] = mul(a, 2)
    n: f32[1, 2, 4] = call torch.neg(m)
    output n
    """.replace("    ", "")
)
NODES = {node.name: node for node in MODULE.graph.nodes}


def described(found: Match) -> dict[str, str]:
    """Labels and variables → what they stand for."""
    return {label: str(value) for label, value in {**found.nodes, **found.values}.items()}


@pytest.mark.parametrize(
    ("pattern", "anchor", "expected"),
    [
        (relu, "r", {"relu": "r"}),
        (relu(X), "r", {"relu": "r", "X": "c"}),
        (relu(conv(X, W, B)), "r", {"relu": "r", "conv": "c", "X": "x", "W": "w", "B": "None"}),
        (relu(conv(X)), "r", {"relu": "r", "conv": "c", "X": "x"}),
        (add(X, conv), "a", {"add": "a", "conv": "c", "X": "s"}),
        (add(conv, X), "a", {"add": "a", "conv": "c", "X": "s"}),
        (add(X, Y), "a", {"add": "a", "X": "s", "Y": "c"}),
        (add(sigmoid(relu(X)), X), "a", {"add": "a", "sigmoid": "s", "relu": "r", "X": "c"}),
        (add(X, sigmoid(relu(X))), "a", {"add": "a", "sigmoid": "s", "relu": "r", "X": "c"}),
        (mul(X, Y), "m", {"mul": "m", "X": "a", "Y": "2"}),
        (op("sigmoid", "relu", label="unary")(op("relu", "conv", label="below")), "r", {"unary": "r", "below": "c"}),
    ],
)
def test_match(pattern: OpPattern, anchor: str, expected: dict[str, str]) -> None:
    found = match(pattern, NODES[anchor])
    assert isinstance(found, Match)
    assert found.anchor is NODES[anchor]
    assert described(found) == expected


@pytest.mark.parametrize(
    ("pattern", "anchor", "expected"),
    [
        (relu, "s", Mismatch("s", "expected relu, found sigmoid", 0)),
        (relu, "n", Mismatch("n", "expected relu, found n", 0)),
        (relu(sigmoid), "r", Mismatch("c", "expected sigmoid, found conv", 1)),
        (op("relu", "add", label="one"), "s", Mismatch("s", "expected add or relu, found sigmoid", 0)),
        (conv(relu), "c", Mismatch("x", "expected relu, found x", 1)),
        (relu(X, Y), "r", Mismatch("r", "expected 2 tensor operands, found 1", 0)),
        (mul(X, relu), "m", Mismatch("2", "expected relu, found 2", 1)),
        (mul(relu, X), "m", Mismatch("a", "expected relu, found add", 1)),
        (mul(add(X, Y), X), "m", Mismatch("2", "X is already s", 1)),
        (mul(X, Var("K", is_constant=True)), "m", Mismatch("2", "K is no constant", 1)),
        (add(X, Var("K", is_constant=True)), "a", Mismatch("c", "K is no constant", 1)),
        # the furthest place counts, of the orders in which operands are tried too
        (add(sigmoid(sigmoid), X), "a", Mismatch("r", "expected sigmoid, found relu", 2)),
        (add(X, sigmoid(relu(sigmoid))), "a", Mismatch("c", "expected sigmoid, found conv", 3)),
    ],
)
def test_mismatch_names_the_furthest_place(pattern: OpPattern, anchor: str, expected: Mismatch) -> None:
    assert match(pattern, NODES[anchor]) == expected
    assert list(all_matches(pattern, NODES[anchor])) == []


def test_all_matches_tries_both_orders_of_commutative_operands_only() -> None:
    assert [described(found) for found in all_matches(add(X, Y), NODES["a"])] == [
        {"add": "a", "X": "s", "Y": "c"},
        {"add": "a", "X": "c", "Y": "s"},
    ]
    assert [described(found) for found in all_matches(mul(X, Y), NODES["m"])] == [{"mul": "m", "X": "a", "Y": "2"}]


def test_size_of() -> None:
    assert [size_of(pattern) for pattern in (X, relu, relu(X), relu(conv(X, W, B)), add(sigmoid(relu(X)), relu))] == [0, 1, 1, 2, 4]


# --- against networkx ------------------------------------------------------------------------------------------------------

# tensor operands of the ops that random graphs are made of
ARITY = {"relu": 1, "sigmoid": 1, "add": 2, "mul": 2, "conv": 3}


def build(rows: list[tuple[str, list[int]]]) -> list[Node]:
    """Nodes of a graph: row i is an op and its operands, by number: 0 and 1 are inputs, i + 2 the result of row i, −1 is None."""
    graph = Graph()
    values: list[Any] = [graph.placeholder("x0"), graph.placeholder("x1")]
    for name, numbers in rows:
        row = ops_by_name()[name]
        operands = {operand: None if number < 0 else values[number] for operand, number in zip(row.positional, numbers, strict=True)}
        node = graph.create_node("call_function", row.call, name=f"n{len(values)}")
        write_call(node, Call(row, normal_form(row, operands, 1)))
        values.append(node)
    graph.output(values[-1])
    FxqModule({}, graph)
    return values[2:]


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[str, list[int]]]:
    rows: list[tuple[str, list[int]]] = []
    for made in range(draw(st.integers(1, 7))):
        name = draw(st.sampled_from(sorted(ARITY)))
        # near results more often than far ones, so that patterns of some depth are met
        operand = st.integers(max(-1, made - 2), made + 1)
        rows.append((name, draw(st.lists(operand, min_size=ARITY[name], max_size=ARITY[name]))))
    return rows


@st.composite
def graphs_and_patterns(draw: st.DrawFn) -> tuple[list[tuple[str, list[int]]], OpPattern]:
    """A graph, and a pattern like what is above one of its nodes, with some things changed."""
    rows = draw(graphs())

    def above(number: int, depth: int, path: str) -> OpPattern:
        name, numbers = rows[number - 2]
        if draw(st.integers(0, 7)) == 0:
            name = draw(st.sampled_from(sorted(ARITY)))
        others = draw(st.lists(st.sampled_from(sorted(ARITY)), max_size=1))
        operands = tuple(operand(below, depth, f"{path}{place}") for place, below in enumerate(numbers))
        operands = operands if draw(st.integers(0, 3)) else operands[: draw(st.integers(0, len(operands)))]
        commutative = draw(st.booleans())
        if commutative and len(operands) >= 2 and draw(st.booleans()):
            operands = (operands[1], operands[0], *operands[2:])
        return op(name, *others, label=path, commutative=commutative)(*operands)

    def operand(number: int, depth: int, path: str) -> Pattern:
        if number >= 2 and depth > 1 and draw(st.integers(0, 3)):
            return above(number, depth - 1, path)
        # mostly one name for one value
        return Var(f"V{number}" if draw(st.integers(0, 5)) else draw(st.sampled_from(["V0", "V1", "Z"])))

    return rows, above(draw(st.integers(2, len(rows) + 1)), 3, "p")


@dataclass(frozen=True)
class _Tree:
    """A tree for networkx; `root` is its top, `value` what each of its nodes stands for."""

    digraph: nx.DiGraph
    root: int
    value: dict[int, Any]


def unfold(value: Any, depth: int) -> _Tree:
    """The graph above a node as a tree: a value that is read twice is there twice. Edges have the position of the operand."""
    tree = _Tree(nx.DiGraph(), 0, {})
    counter = itertools.count()

    def grow(value: Any, depth: int) -> int:
        number = next(counter)
        call = call_of(value) if isinstance(value, Node) else None
        tree.digraph.add_node(number, op=call.op.name if call else None)
        tree.value[number] = value
        if call is not None and depth > 0:
            for position, name in enumerate(call.op.positional):
                tree.digraph.add_edge(number, grow(call.operands[name], depth - 1), position=position)
        return number

    grow(value, depth)
    return tree


def as_tree(pattern: Pattern) -> _Tree:
    """A pattern as a tree. Edges have the positions that the operand may have."""
    tree = _Tree(nx.DiGraph(), 0, {})
    counter = itertools.count()

    def grow(pattern: Pattern) -> int:
        number = next(counter)
        tree.value[number] = pattern
        tree.digraph.add_node(number, ops=None if isinstance(pattern, Var) else pattern.ops)
        if isinstance(pattern, OpPattern):
            either = pattern.commutative and len(pattern.operands) >= 2
            for position, operand in enumerate(pattern.operands):
                tree.digraph.add_edge(number, grow(operand), positions={0, 1} if either and position < 2 else {position})
        return number

    grow(pattern)
    return tree


def oracle(pattern: OpPattern, anchor: Node) -> Iterator[dict[str, Any]]:
    """Every way to lay the pattern's tree over the graph's, top on top, in which a Var stands for one value."""
    graph, wanted = unfold(anchor, size_of(pattern) + 1), as_tree(pattern)
    search = DiGraphMatcher(
        graph.digraph,
        wanted.digraph,
        node_match=lambda found, asked: asked["ops"] is None or found["op"] in asked["ops"],
        edge_match=lambda found, asked: found["position"] in asked["positions"],
    )
    for mapping in search.subgraph_monomorphisms_iter():
        if mapping.get(graph.root) != wanted.root:
            continue
        pairs = [(wanted.value[number].name if isinstance(wanted.value[number], Var) else wanted.value[number].label, graph.value[node])
                 for node, number in mapping.items()]  # fmt: skip
        if all(one is other for (name, one), (again, other) in itertools.combinations(pairs, 2) if name == again):
            yield dict(pairs)


def solutions(found: Iterator[dict[str, Any]]) -> Counter[tuple[tuple[str, str], ...]]:
    return Counter(tuple(sorted((name, str(value)) for name, value in each.items())) for each in found)


@settings(deadline=None, max_examples=200)
@given(graphs_and_patterns())
@example(([("relu", [0]), ("add", [2, 2])], add(X, X)))
@example(([("relu", [0]), ("relu", [1]), ("add", [2, 3])], add(relu(X), op("relu", label="other")(Y))))
@example(([("conv", [0, 1, -1]), ("add", [2, 2]), ("add", [3, 2])], add(op("add", label="below", commutative=True)(X, Y), X)))
def test_all_matches_are_those_of_networkx(drawn: tuple[list[tuple[str, list[int]]], OpPattern]) -> None:
    rows, pattern = drawn
    for anchor in build(rows):
        expected = solutions(oracle(pattern, anchor))
        found = list(all_matches(pattern, anchor))
        assert solutions({**each.nodes, **each.values} for each in found) == expected
        assert all(each.anchor is anchor for each in found)
        first = match(pattern, anchor)
        assert first == (found[0] if found else first) and isinstance(first, Match) == bool(expected)


# --- work ------------------------------------------------------------------------------------------------------------------

BLOCK = """
c{i}: f32[1, 2, 3, 3] = conv(r{h}, @c{i}.weight[2, 2, 1, 1])
b{i}: f32[1, 2, 3, 3] = batch_norm(c{i}, @b{i}.running_mean[2], @b{i}.running_var[2])
s{i}: f32[1, 2, 3, 3] = add(b{i}, r{h})
r{i}: f32[1, 2, 3, 3] = relu(s{i})"""
KEPT = """
c{i}: f32[1, 2, 3, 3] = conv(r{h}, @c{i}.weight[2, 2, 1, 1])
s{i}: f32[1, 2, 3, 3] = add(c{i}, c{i})
r{i}: f32[1, 2, 3, 3] = clamp(s{i}, min=@low[3])"""


def looks(block: str, count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many times a sweep with FUSIONS looks at a node of a chain of so many blocks."""
    lines = "".join(block.format(i=i, h=i - 1) for i in range(1, count + 1))
    module = parse_graph(f"r0: f32[1, 2, 3, 3] = input{lines}\noutput r{count}")
    seen = []

    def counting(node: Node) -> OpDef | None:
        seen.append(node)
        return op_of(node)

    with monkeypatch.context() as patched:
        patched.setattr(matcher, "op_of", counting)
        patched.setattr(rules, "op_of", counting)
        rewrite(module, FUSIONS)
    return len(seen)


@pytest.mark.parametrize("block", [BLOCK, KEPT], ids=["everything fuses", "nothing fuses"])
def test_a_sweep_is_linear(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [looks(block, count, monkeypatch) for count in (5, 10, 15, 20)]
    steps = {after - before for before, after in itertools.pairwise(counts)}
    assert len(steps) == 1 and steps.pop() <= 5 * 40
