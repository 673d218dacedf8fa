"""Imports go one way through the package, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

from tests.meta.source import PACKAGE, Module, read_package, write_package

# Lowest first. A part may import from the layers below its own, and from its own layer as long as no circle comes of it.
# "" is fxq/__init__.py, which the interpreter runs before any part: that is not counted as an import.
LAYERS = (
    ("errors",),
    ("graph",),
    ("observers", "patterns", "runtime"),
    ("qconfig_mapping",),
    ("dynamic",),
    ("passes", "qat", "lowering"),
    ("report", "visualize", "files", "export"),
    ("api",),
    ("compat", "testing", "tuning"),
    ("demo",),
    ("cli",),
    ("", "__main__"),
)

# neighbours that don't import each other in either direction
APART = (("passes", "lowering"), ("observers", "patterns"), ("observers", "runtime"), ("patterns", "runtime"))

# what no module of a part may import, by itself or through the modules it imports
BANNED = (
    ("runtime", "torch.fx", "a compiled model runs without the compiler"),
    ("runtime", "fxq.graph.annotation", "annotations belong to torch.fx nodes"),
)

# (importing module, imported module, reason): circles that stay, cut by an import inside a function
ALLOWED_CIRCLES: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Import:
    """`importer` imports the module `target`. Under `if TYPE_CHECKING:` the interpreter never gets there."""

    importer: Module
    target: str
    line: int
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.importer.name}:{self.line} imports {self.target}"


def imports(modules: tuple[Module, ...]) -> tuple[Import, ...]:
    """All imports of a package, also those inside functions."""
    names = frozenset(module.name for module in modules)
    return tuple(found for module in modules for found in _imports_of(module, names))


def _imports_of(module: Module, names: frozenset[str]) -> Iterator[Import]:
    for statement, typing_only in _import_statements(module.tree, False):
        for target in _targets(statement, module, names):
            yield Import(module, target, statement.lineno, typing_only)


def _import_statements(node: ast.AST, typing_only: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, typing_only
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from _import_statements(ast.Module(child.body, []), True)
            yield from _import_statements(ast.Module(child.orelse, []), typing_only)
        else:
            yield from _import_statements(child, typing_only)


def _targets(statement: ast.Import | ast.ImportFrom, module: Module, names: frozenset[str]) -> Iterator[str]:
    """`from a import b` is an import of a.b where that is a module (of ours or torch.fx), of a otherwise."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    base = statement.module or ""
    if statement.level:
        parents = module.name.split(".")[: None if module.is_package else -1]
        here = parents[: len(parents) - statement.level + 1]
        base = ".".join([*here, base] if base else here)
    for alias in statement.names:
        member = f"{base}.{alias.name}"
        yield member if member in names or member == "torch.fx" else base


def _is_ours(target: str) -> bool:
    return target == "fxq" or target.startswith("fxq.")


def _part(target: str) -> str:
    return target.partition(".")[2].partition(".")[0]


def wrong_directions(modules: tuple[Module, ...]) -> list[str]:
    """Imports from a higher layer, or between parts that stay apart. Imports for type checking count: they are knowledge too."""
    rank = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    apart = {frozenset(pair) for pair in APART}
    unknown = [f"{module.name} is in no layer" for module in modules if module.part not in rank]
    wrong = []
    for found in imports(modules):
        source, target = found.importer.part, _part(found.target)
        if not _is_ours(found.target) or source == target or source not in rank or target not in rank:
            continue
        if rank[target] > rank[source] or frozenset((source, target)) in apart:
            wrong.append(str(found))
    return unknown + wrong


def circles(modules: tuple[Module, ...]) -> list[str]:
    """Circles between modules and between parts. Imports for type checking don't count: they are never executed."""
    allowed = {(importer, target) for importer, target, _ in ALLOWED_CIRCLES}
    edges = [
        (found.importer.name, found.target)
        for found in imports(modules)
        if _is_ours(found.target) and not found.typing_only and (found.importer.name, found.target) not in allowed
    ]
    part_edges = [(_part(source), _part(target)) for source, target in edges if _part(source) != _part(target)]
    return [*_one_circle_each(edges), *_one_circle_each(part_edges)]


def _one_circle_each(edges: list[tuple[str, str]]) -> Iterator[str]:
    """One circle of each group of nodes that all reach each other: a group can hold exponentially many."""
    graph = nx.DiGraph(edges)
    for group in nx.strongly_connected_components(graph):
        if len(group) > 1:
            circle = [source for source, _ in nx.find_cycle(graph.subgraph(group))]
            yield " → ".join([*circle, circle[0]])


def banned_imports(modules: tuple[Module, ...]) -> list[str]:
    """Imports of a BANNED module, direct or through others, and uses such as `torch.fx.Node` after `import torch`."""
    graph = nx.DiGraph((found.importer.name, found.target) for found in imports(modules))
    graph.add_edges_from((module.name, use) for module in modules for use in _banned_uses(module))
    return [
        " → ".join(nx.shortest_path(graph, module.name, target))
        for part, banned, _ in BANNED
        for module in modules
        if module.part == part and module.name in graph
        for target in sorted(nx.descendants(graph, module.name))
        if f"{target}.".startswith(f"{banned}.")
    ]


def _banned_uses(module: Module) -> Iterator[str]:
    names = {banned for _, banned, _ in BANNED}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in names:
            yield ast.unparse(node)


def test_directions() -> None:
    assert wrong_directions(read_package(PACKAGE)) == []


def test_circles() -> None:
    assert circles(read_package(PACKAGE)) == []


def test_banned() -> None:
    assert banned_imports(read_package(PACKAGE)) == []


def test_every_allowed_circle_still_exists() -> None:
    existing = {(found.importer.name, found.target) for found in imports(read_package(PACKAGE))}
    assert [row for row in ALLOWED_CIRCLES if row[:2] not in existing] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from fxq.passes.fuse import fuse", "fxq.graph.ops:1 imports fxq.passes.fuse"),
        ("import fxq.passes.fuse", "fxq.graph.ops:1 imports fxq.passes.fuse"),
        ("from fxq.passes import fuse", "fxq.graph.ops:1 imports fxq.passes.fuse"),
        ("from ..passes import fuse", "fxq.graph.ops:1 imports fxq.passes.fuse"),
        ("from fxq import prepare_fx", "fxq.graph.ops:1 imports fxq"),
        ("def f():\n    import fxq.api", "fxq.graph.ops:2 imports fxq.api"),
        ("if TYPE_CHECKING:\n    import fxq.api", "fxq.graph.ops:2 imports fxq.api"),
    ],
)
def test_upward_import_is_found(tmp_path: Path, text: str, expected: str) -> None:
    root = write_package(tmp_path, graph__ops=text, passes__fuse="", api="")
    assert wrong_directions(read_package(root)) == [expected]


def test_neighbours_apart_and_unknown_parts_are_found(tmp_path: Path) -> None:
    root = write_package(tmp_path, passes__fuse="import fxq.lowering.pack", lowering__pack="", extra="")
    assert wrong_directions(read_package(root)) == ["fxq.extra is in no layer", "fxq.passes.fuse:1 imports fxq.lowering.pack"]


def test_downward_imports_are_fine(tmp_path: Path) -> None:
    root = write_package(tmp_path, passes__fuse="from fxq.graph import ops\nimport torch.fx", graph__ops="from . import q", graph__q="")
    modules = read_package(root)
    assert wrong_directions(modules) + circles(modules) + banned_imports(modules) == []


def test_circle_between_modules_is_found(tmp_path: Path) -> None:
    root = write_package(tmp_path, graph__a="import fxq.graph.b", graph__b="def f():\n    from fxq.graph.a import g")
    assert sorted(circles(read_package(root))[0].split(" → ")[:2]) == ["fxq.graph.a", "fxq.graph.b"]


def test_circle_between_parts_is_found(tmp_path: Path) -> None:
    root = write_package(tmp_path, qat__a="import fxq.passes.a", passes__a="", passes__b="import fxq.qat.b", qat__b="")
    assert [sorted(circle.split(" → ")[:2]) for circle in circles(read_package(root))] == [["passes", "qat"]]


def test_typing_only_import_makes_no_circle(tmp_path: Path) -> None:
    root = write_package(tmp_path, graph__a="import fxq.graph.b", graph__b="if typing.TYPE_CHECKING:\n    import fxq.graph.a")
    assert circles(read_package(root)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from torch import fx", "fxq.runtime.run → torch.fx"),
        ("from torch.fx.graph import Graph", "fxq.runtime.run → torch.fx.graph"),
        ("import torch\nNode = torch.fx.Node", "fxq.runtime.run → torch.fx"),
        ("from fxq.graph.annotation import type_of", "fxq.runtime.run → fxq.graph.annotation"),
        ("import fxq.graph.ops", "fxq.runtime.run → fxq.graph.ops → torch.fx"),
    ],
)
def test_banned_import_is_found(tmp_path: Path, text: str, expected: str) -> None:
    root = write_package(tmp_path, runtime__run=text, graph__annotation="", graph__ops="import torch.fx")
    assert banned_imports(read_package(root)) == [expected]
