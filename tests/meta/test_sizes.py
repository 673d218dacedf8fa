"""Functions and modules stay small enough to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.meta.source import PACKAGE, Definition, Module, definitions, read_package, write_package

FUNCTION_LINES = 60
PARAMETERS = 5
NESTING = 3
MODULE_LINES = 400

# (function or module, reason): more parameters than PARAMETERS
WIDE_SIGNATURES = (
    ("fxq.graph.functional", "an op takes torch's parameters for it, and its epilogue"),
    ("fxq.graph.products.attention", "those of torch's scaled_dot_product_attention"),
    ("fxq.graph.product_spellings.attention", "the same"),
    ("fxq.passes.attention.Decoder.forward", "torch.nn.TransformerDecoder's"),
    ("fxq.passes.tracer.OriginTracer.create_node", "torch.fx.Tracer's"),
    ("fxq.api.prepare_fx", "torch.ao's, and options of ours that are given by keyword"),
    ("fxq.api.prepare_qat_fx", "those of prepare_fx"),
    ("fxq.compat.torch_ao", "torch.ao's"),
    ("fxq.api.quantize", "a user's whole choice, given by keyword"),
    ("fxq.runtime.multihead.MultiheadCall.forward", "torch.nn.MultiheadAttention's"),
    ("fxq.tuning.sensitivity.sensitivity", "the same, and a target"),
)

_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)


def parameter_count(definition: Definition) -> int:
    """Everything a caller can pass; self and cls are not passed."""
    arguments = definition.node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    starred = [star for star in (arguments.vararg, arguments.kwarg) if star is not None]
    bound = definition.owner is not None and bool(named) and named[0].arg in ("self", "cls")
    return len(named) + len(starred) - bound


def nesting(node: ast.AST) -> int:
    """Depth of blocks inside blocks. `elif` stays on the level of its `if`; a function inside counts for itself."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, nesting(child) + (isinstance(child, _BLOCKS) and not is_elif))
    return deepest


def oversized(modules: tuple[Module, ...]) -> list[str]:
    """What is over a limit, with its size."""
    return [message for module in modules for message in _oversized_in(module)]


def _oversized_in(module: Module) -> Iterator[str]:
    lines = len(module.text.splitlines())
    if lines > MODULE_LINES:
        yield f"{module.name}: {lines} lines"
    for definition in definitions(module):
        node = definition.node
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES:
            yield f"{definition.name}: {length} lines"
        if nesting(node) > NESTING:
            yield f"{definition.name}: {nesting(node)} levels"
        if parameter_count(definition) > PARAMETERS and not _is_listed(definition.name):
            yield f"{definition.name}: {parameter_count(definition)} parameters"


def _is_listed(name: str) -> bool:
    return any(f"{name}.".startswith(f"{listed}.") for listed, _ in WIDE_SIGNATURES)


def test_sizes() -> None:
    assert oversized(read_package(PACKAGE)) == []


def test_every_wide_signature_is_still_wide() -> None:
    functions = [definition for module in read_package(PACKAGE) for definition in definitions(module)]
    wide = [f"{definition.name}." for definition in functions if parameter_count(definition) > PARAMETERS]
    assert [listed for listed, _ in WIDE_SIGNATURES if not any(name.startswith(f"{listed}.") for name in wide)] == []


FOUR_LEVELS = """
def f(x):
    for a in x:
        while a:
            with a:
                if a:
                    return a
"""
ELIF_CHAIN = """
def f(x):
    if x == 1:
        pass
    elif x == 2:
        pass
    elif x == 3:
        pass
    elif x == 4:
        pass
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f():\n" + "    a = 1\n" * 59, []),
        ("def f():\n" + "    a = 1\n" * 60, ["fxq.a.f: 61 lines"]),
        ("class A:\n    def f(self):\n" + "        a = 1\n" * 60, ["fxq.a.A.f: 61 lines"]),
        ("a = 1\n" * 401, ["fxq.a: 401 lines"]),
        ("def f(a, b, /, c, *, d, e): ...", []),
        ("def f(a, b, /, c, *, d, e, f): ...", ["fxq.a.f: 6 parameters"]),
        ("def f(a, b, c, d, *e, **f): ...", ["fxq.a.f: 6 parameters"]),
        ("class A:\n    def f(self, a, b, c, d, e): ...", []),
        ("class A:\n    def f(self, a, b, c, d, e, f): ...", ["fxq.a.A.f: 6 parameters"]),
        (FOUR_LEVELS, ["fxq.a.f: 4 levels"]),
        (FOUR_LEVELS.replace("while a", "if a"), ["fxq.a.f: 4 levels"]),
        (ELIF_CHAIN, []),
        ("def f():\n    def g():\n        def h(a, b, c, d, e, f): ...", ["fxq.a.f.g.h: 6 parameters"]),
    ],
)
def test_limits(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert oversized(read_package(write_package(tmp_path, a=text))) == expected
