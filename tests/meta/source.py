"""A package as the meta tests read it: parsed, never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "fxq"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of a package. `name` is its dotted import name; a folder's `__init__.py` has the folder's name."""

    name: str
    path: Path
    is_package: bool
    text: str
    tree: ast.Module

    @property
    def part(self) -> str:
        """The first name below the package: "graph" for fxq.graph.ops, "" for fxq itself."""
        return self.name.partition(".")[2].partition(".")[0]


@dataclass(frozen=True)
class Definition:
    """A function or method; `name` is dotted from the package down, `owner` the class around it."""

    name: str
    node: Function
    owner: ast.ClassDef | None


def read_package(root: Path) -> tuple[Module, ...]:
    """All modules under the folder `root`, by name."""
    return tuple(sorted((_read(path, root) for path in root.rglob("*.py")), key=lambda module: module.name))


def _read(path: Path, root: Path) -> Module:
    parts = path.relative_to(root.parent).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    text = path.read_text(encoding="utf-8")
    return Module(".".join(parts[:-1] if is_package else parts), path, is_package, text, ast.parse(text))


def definitions(module: Module) -> Iterator[Definition]:
    """Every function of a module, those inside classes and functions too."""
    return _definitions(module.tree, module.name, None)


def _definitions(node: ast.AST, prefix: str, owner: ast.ClassDef | None) -> Iterator[Definition]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            name = f"{prefix}.{child.name}"
            yield Definition(name, child, owner)
            yield from _definitions(child, name, None)
        elif isinstance(child, ast.ClassDef):
            yield from _definitions(child, f"{prefix}.{child.name}", child)
        else:
            yield from _definitions(child, prefix, owner)


def write_package(folder: Path, **files: str) -> Path:
    """Writes a small package named fxq for testing a check; `graph__ops` is the file graph/ops.py."""
    root = folder / "fxq"
    for name, text in {"__init__": "", **files}.items():
        path = root / Path(*name.replace("__init__", "INIT").split("__"))
        path = path.with_name("__init__" if path.name == "INIT" else path.name).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root
