"""Names, comments and docstrings; and what the package must not touch."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.meta.source import PACKAGE, REPOSITORY, Definition, Module, definitions, read_package, write_package

# words that say nothing about what a thing is or does
EMPTY_WORDS = frozenset(
    {"util", "utils", "helper", "helpers", "handler", "handlers", "info", "manager", "managers", "maybe", "ctr", "impl"}
)

# the only module that knows how annotations are stored on a node
META_MODULE = "fxq.graph.annotation"

# torch's quantized dtypes, tensors and kernels are going away: fxq stands on plain integer tensors
QUANTIZED_TORCH = re.compile(
    r"torch\.(ao|quantization|ops\.quantized|nn\.(intrinsic|qat|quantizable|quantized)|backends\.quantized"
    r"|q?u?int(4x2|2x4)|quint8|qint8|qint32|quantize_per_\w+|quantized_\w+|_empty_\w*affine_quantized)(\.|$)"
)
# (module, names, reason)
QUANTIZED_TORCH_ALLOWED = (
    ("fxq.graph.qtypes", {"torch.quint8", "torch.qint8", "torch.qint32"}, "aliases for dtypes in what a user passes in"),
)

# (module, name, reason): names that are torch's
TORCHS_NAMES = (("fxq.graph.spellings", "split_size_or_sections", "torch.split's argument, which may be given by keyword"),)

# methods whose meaning is fixed by a base class outside: Python's, torch.nn's, ast's, torch.fx's Tracer and Interpreter
INHERITED = re.compile(r"__\w+__|forward|extra_repr|visit_\w+|call_\w+|create_node|run_node|get_attr|placeholder|output")

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def empty_names(modules: tuple[Module, ...]) -> list[str]:
    """Names given to modules, classes, functions, parameters and variables that hold an empty word or join two jobs with `_or_`."""
    files = [f"{module.name}: {word}" for module in modules for word in module.name.split(".") if _is_empty(word)]
    given = {(module.name, name) for module in modules for node in ast.walk(module.tree) for name in _given_names(node)}
    torchs = {(module, name) for module, name, _ in TORCHS_NAMES}
    return files + [f"{module}: {name}" for module, name in sorted(given - torchs) if _is_empty(name)]


def _is_empty(name: str) -> bool:
    return "_or_" in name or any(word.lower() in EMPTY_WORDS for word in _WORD.findall(name))


def _given_names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
            yield name
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield name
        case ast.alias(asname=str(name)):
            yield name


def meta_uses(modules: tuple[Module, ...]) -> list[str]:
    """`node.meta` outside META_MODULE."""
    return [
        f"{module.name}:{node.lineno}"
        for module in modules
        if module.name != META_MODULE
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr == "meta"
    ]


def quantized_torch_uses(modules: tuple[Module, ...]) -> list[str]:
    """torch.ao, torch.ops.quantized, quantized dtypes and what makes tensors of them."""
    allowed = {(module, name) for module, names, _ in QUANTIZED_TORCH_ALLOWED for name in names}
    return [
        f"{module.name}: {name}"
        for module in modules
        for node in ast.walk(module.tree)
        for name in _torch_names(node)
        if QUANTIZED_TORCH.match(name) and (module.name, name) not in allowed
    ]


def _torch_names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Attribute():
            dotted = ast.unparse(node)
            # of torch.ao.quantization.QConfig only the innermost hit is reported, not each longer name around it
            if not QUANTIZED_TORCH.match(ast.unparse(node.value)):
                yield dotted
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=str(base), names=names, level=0):
            yield from (f"{base}.{alias.name}" for alias in names)


def undocumented(modules: tuple[Module, ...]) -> list[str]:
    """Public functions and methods without a docstring, of those longer than one statement.

    A subclass doesn't repeat what is written at the method that it overrides.
    """
    pairs = [(module, definition) for module in modules for definition in definitions(module)]
    written = {definition.node.name for _, definition in pairs if definition.owner and ast.get_docstring(definition.node)}
    return [
        definition.name
        for module, definition in pairs
        if _needs_docstring(module, definition) and not (_is_override(definition) and definition.node.name in written)
    ]


def _is_override(definition: Definition) -> bool:
    return definition.owner is not None and bool(definition.owner.bases)


def _needs_docstring(module: Module, definition: Definition) -> bool:
    node = definition.node
    is_nested = definition.owner is None and node not in module.tree.body
    names = definition.name.removeprefix(f"{module.name}.").split(".")
    is_public = not is_nested and not any(name.startswith("_") for name in names) and not INHERITED.fullmatch(node.name)
    return is_public and len(node.body) > 1 and ast.get_docstring(node) is None


def _comments(text: str) -> Iterator[tokenize.TokenInfo]:
    return (token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT)


def open_ends(modules: tuple[Module, ...]) -> list[str]:
    """Comments that put work off without the number of the issue that will do it."""
    pattern = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?! ?\(?#\d+)")
    return [f"{module.name}:{token.start[0]}" for module in modules for token in _comments(module.text) if pattern.search(token.string)]


def commented_out_code(modules: tuple[Module, ...]) -> list[str]:
    """Comments that are statements of Python. Assignments and calls are let through: an equation reads like one."""
    return [f"{module.name}:{token.start[0]}" for module in modules for token in _comments(module.text) if _is_statement(token.string)]


def _is_statement(comment: str) -> bool:
    text = comment.lstrip("#").strip()
    try:
        body = ast.parse(f"async def f():\n    {text}" + (" pass" if text.endswith(":") else "")).body[0]
    except SyntaxError:
        return False
    assert isinstance(body, ast.AsyncFunctionDef)
    match body.body:
        case [ast.Assign(targets=[ast.Attribute()]) | ast.Return(value=ast.expr())]:
            return True
        case [ast.Expr(value=ast.Call(func=ast.Name(id="print")))]:
            return True
        case [statement]:
            return isinstance(statement, _CODE)
    return False


_LINES = (ast.Raise, ast.Assert, ast.Delete, ast.AugAssign, ast.Import, ast.ImportFrom)
_CODE = (*_LINES, ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.With, ast.If)


def test_names() -> None:
    assert empty_names(read_package(PACKAGE)) == []


def test_meta_is_touched_in_one_module() -> None:
    assert meta_uses(read_package(PACKAGE)) == []


def test_no_quantized_torch() -> None:
    assert quantized_torch_uses(read_package(PACKAGE)) == []


def test_docstrings() -> None:
    assert undocumented(read_package(PACKAGE)) == []


@pytest.mark.parametrize("folder", ["fxq", "tests", "benchmarks"])
def test_comments(folder: str) -> None:
    modules = read_package(REPOSITORY / folder)
    assert open_ends(modules) + commented_out_code(modules) == []


@pytest.mark.parametrize(
    "text",
    [
        "def load_helper(): ...",
        "class GraphManager: ...",
        "class HTTPHandler: ...",
        "def f(debug_info): ...",
        "maybe_fused = 1",
        "def fuse_or_skip(): ...",
        "def f(self):\n    self.ctr = 0",
        "import numpy as np_utils",
        "for conv_impl in (): ...",
    ],
)
def test_empty_name_is_found(tmp_path: Path, text: str) -> None:
    assert len(empty_names(read_package(write_package(tmp_path, a=text)))) == 1


def test_empty_file_name_is_found_and_other_names_are_fine(tmp_path: Path) -> None:
    text = "import torch.utils\nfrom logging import info\ndef f(x):\n    oracle = x.info or torch.iinfo(x)\n    information = implicit = 1"
    root = write_package(tmp_path, graph__utils=text)
    assert empty_names(read_package(root)) == ["fxq.graph.utils: utils"]


def test_meta_use_is_found(tmp_path: Path) -> None:
    text = "x = node.meta.get('a')"
    modules = read_package(write_package(tmp_path, graph__annotation=text, graph__ops="device = 'meta'", passes__fuse=text))
    assert meta_uses(modules) == ["fxq.passes.fuse:1"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import torch.ao.quantization", "torch.ao.quantization"),
        ("from torch.ao.quantization import QConfig", "torch.ao.quantization.QConfig"),
        ("from torch import quint8", "torch.quint8"),
        ("x = torch.quint8", "torch.quint8"),
        ("x = torch.ops.quantized.conv2d(y)", "torch.ops.quantized"),
        ("x = torch.quantize_per_tensor(y, 1.0, 0, d)", "torch.quantize_per_tensor"),
        ("x = torch.nn.quantized.Conv2d", "torch.nn.quantized"),
        ("x = torch.ao.nn.quantized.Conv2d", "torch.ao"),
    ],
)
def test_quantized_torch_is_found(tmp_path: Path, text: str, name: str) -> None:
    modules = read_package(write_package(tmp_path, graph__ops=text))
    assert quantized_torch_uses(modules) == [f"fxq.graph.ops: {name}"]


def test_quantized_torch_in_the_alias_table_and_in_text_is_fine(tmp_path: Path) -> None:
    text = '"""Takes torch.ao\'s names."""\nALIASES = {torch.quint8: "uint8", torch.uint8: "uint8"}'
    assert quantized_torch_uses(read_package(write_package(tmp_path, graph__qtypes=text))) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(x):\n    y = x\n    return y", ["fxq.a.f"]),
        ("class A:\n    def f(self):\n        y = 1\n        return y", ["fxq.a.A.f"]),
        ("def f(x):\n    'x → x'\n    y = x\n    return y", []),
        ("def f(x):\n    return x", []),
        ("def _f(x):\n    y = x\n    return y", []),
        ("class _A:\n    def f(self):\n        y = 1\n        return y", []),
        ("class A:\n    def f(self):\n        'f'\nclass B(A):\n    def f(self):\n        y = 1\n        return y", []),
        ("class A:\n    def f(self):\n        'f'\nclass B:\n    def f(self):\n        y = 1\n        return y", ["fxq.a.B.f"]),
        ("class A:\n    def f(self): ...\nclass B(A):\n    def f(self):\n        y = 1\n        return y", ["fxq.a.B.f"]),
        ("class A:\n    def forward(self):\n        y = 1\n        return y", []),
        ("def _f(x):\n    def g():\n        y = x\n        return y\n    return g", []),
    ],
)
def test_missing_docstring_is_found(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert undocumented(read_package(write_package(tmp_path, a=text))) == expected


@pytest.mark.parametrize(("comment", "count"), [("TODO: later", 1), ("FIXME", 1), ("TODO(#12): later", 0), ("TODO #12", 0), ("today", 0)])
def test_open_end_is_found(tmp_path: Path, comment: str, count: int) -> None:
    text = f"a = 'TODO'  # {comment}"
    assert len(open_ends(read_package(write_package(tmp_path, a=text)))) == count


@pytest.mark.parametrize(
    ("comment", "is_code"),
    [
        ("return x", True),
        ("import torch", True),
        ("from torch import fx", True),
        ("self.scale = 1", True),
        ("print(x)", True),
        ("total += x", True),
        ("for node in graph.nodes:", True),
        ("def f(x):", True),
        ("bn(conv(x)) = conv(x) + b", False),
        ("y = scale * x", False),
        ("conv(x)", False),
        ("return early when nothing matches", False),
        ("why: the order matters", False),
        ("fmt: skip", False),
    ],
)
def test_commented_out_code_is_found(tmp_path: Path, comment: str, is_code: bool) -> None:
    modules = read_package(write_package(tmp_path, a=f"a = 1\n# {comment}\n"))
    assert commented_out_code(modules) == (["fxq.a:2"] if is_code else [])
