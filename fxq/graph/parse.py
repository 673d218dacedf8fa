"""parse_graph: the inverse of print_graph, for tests and for trying things out."""

from __future__ import annotations

import ast
import math
import re
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from fxq.errors import FxqError
from fxq.graph.annotation import Origin, set_origins, type_of
from fxq.graph.constants import put_tensor, tensor_at
from fxq.graph.infer import infer_types
from fxq.graph.module import FxqModule, find_function
from fxq.graph.names import qualified_name
from fxq.graph.opdef import Call, OpDef, Operands
from fxq.graph.ops import ops_by_name, write_call
from fxq.graph.spellings import normal_form
from fxq.graph.text import ACT_NAMES, DTYPE_NAMES, format_type

_LINE = re.compile(r"(?P<name>\w+)(?:: (?P<type>[^=]+?))? = (?P<rest>.+)")
_CONSTANT = re.compile(r"@([\w.]+)\[([^\]]*)\]")
_TYPE = re.compile(r"(\w+)\[([^\]]*)\]")
_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
_ACTS = {name: act for act, name in ACT_NAMES.items()}


class GraphTextError(FxqError):
    """A line that parse_graph cannot read."""


def parse_graph(text: str, constants: Mapping[str, Tensor] | None = None) -> FxqModule:
    """Builds the graph that the text describes, so that print_graph gives the text back.

    Args:
        text: lines as print_graph writes them. Types are needed on inputs only; where given elsewhere they are checked.
        constants: values of @tensors by path. Others are made from a generator seeded by their path: normal values, those of
            one dimension or none between 0.5 and 1.5, integers over the range of 8 bits.

    Raises:
        GraphTextError: a line that cannot be read or a type that is not the one found; names the line.
    """
    parser = _Parser(constants or {})
    for number, line in enumerate(text.strip().splitlines(), start=1):
        if line.strip():
            parser.read(line.strip(), number)
    module = FxqModule(parser.root, parser.graph)
    infer_types(module, tuple(_example(*_first_type(declared)) for declared in parser.input_types), {})
    parser.check_types()
    return module


class _Parser:
    def __init__(self, constants: Mapping[str, Tensor]) -> None:
        self.root = nn.Module()
        self.graph = Graph()
        self.constants = constants
        self.nodes: dict[str, Node] = {}
        self.reads: dict[str, Node] = {}
        self.declared: dict[str, str] = {}
        self.input_types: list[str] = []

    def read(self, line: str, number: int) -> None:
        try:
            self._read(line)
        except (SyntaxError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise GraphTextError(
                f"line {number}: {line}",
                expected="`name: type = op(operands)` or `output name`",
                found=f"{type(error).__name__}: {error}",
                remedy="compare with what print_graph writes; the operand names are those of fxq.graph.functional",
            ) from error

    def _read(self, line: str) -> None:
        if line.startswith("output "):
            self.graph.output(self._value(line.removeprefix("output ")))
            return
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError("not an assignment")
        name, rest = match["name"], match["rest"]
        if match["type"]:
            self.declared[name] = match["type"].strip()
        self.nodes[name] = self._input(name) if rest == "input" else self._call(name, rest)

    def _input(self, name: str) -> Node:
        self.input_types.append(self.declared[name])
        return self.graph.placeholder(name)

    def _call(self, name: str, text: str) -> Node:
        kind, _, rest = text.partition(" ") if text.startswith(("call ", "method ")) else ("", "", text)
        tree = ast.parse(self._without_constants(rest), mode="eval").body
        if not isinstance(tree, ast.Call):
            raise ValueError("not a call")
        args = tuple(map(self._evaluate, tree.args))
        kwargs = {str(keyword.arg): self._evaluate(keyword.value) for keyword in tree.keywords}
        target = ast.unparse(tree.func)
        if kind == "call":
            return self.graph.create_node("call_function", find_function(target), args, kwargs, name=name)
        if kind == "method":
            return self.graph.create_node("call_method", target, args, kwargs, name=name)
        return self._canonical(name, ops_by_name()[target], args, kwargs)

    def _canonical(self, name: str, op: OpDef, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Node:
        operands = op.bind(args, kwargs)
        rank = self._spatial_rank(operands)
        node = self.graph.create_node("call_function", op.call, name=name)
        write_call(node, Call(op, normal_form(op, operands, rank)))
        set_origins(node, (_origin(op, operands, rank),))
        return node

    def _spatial_rank(self, operands: Operands) -> int:
        sizes = operands.get("kernel_size", operands.get("output_size"))
        if isinstance(sizes, tuple):
            return len(sizes)
        weight = operands.get("weight")
        if not isinstance(weight, Node) or weight.op != "get_attr":
            return 1
        return tensor_at(self.root, str(weight.target)).ndim - 2

    def _value(self, text: str) -> Any:
        return self._evaluate(ast.parse(self._without_constants(text), mode="eval").body)

    def _without_constants(self, text: str) -> str:
        """@path[shape] → a name that stands for its get_attr node."""
        return _CONSTANT.sub(lambda match: self._constant(match[1], match[2]), text)

    def _constant(self, path: str, declared: str) -> str:
        if path in self.reads:
            return self.reads[path].name
        parts = [part.strip() for part in declared.split(",") if part.strip()]
        dtype = _DTYPES[parts.pop(0)] if parts and not parts[0].isdigit() else torch.float32
        put_tensor(self.root, path, self.constants.get(path, _made_up(path, tuple(map(int, parts)), dtype)))
        node = self.graph.create_node("get_attr", path, name=path.replace(".", "_"))
        self.nodes[node.name] = self.reads[path] = node
        return node.name

    def _evaluate(self, tree: ast.expr) -> Any:
        if isinstance(tree, ast.Name):
            return self._named(tree.id)
        if isinstance(tree, ast.Tuple | ast.List):
            items = [self._evaluate(item) for item in tree.elts]
            return tuple(items) if isinstance(tree, ast.Tuple) else items
        if isinstance(tree, ast.Dict):
            return {ast.literal_eval(key): self._evaluate(item) for key, item in zip(tree.keys, tree.values, strict=True) if key}
        if isinstance(tree, ast.Call):
            function, args = ast.unparse(tree.func), [self._evaluate(item) for item in tree.args]
            return slice(*args) if function == "slice" else (function, *args)
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.operand, ast.Name):
            return -self._named(tree.operand.id)
        return ast.literal_eval(tree)

    def _named(self, name: str) -> Any:
        return {"inf": math.inf, "Ellipsis": ..., **_ACTS}[name] if name not in self.nodes else self.nodes[name]

    def check_types(self) -> None:
        """What the text says of a value must be what running the graph gives."""
        for name, declared in self.declared.items():
            found = format_type(type_of(self.nodes[name]))
            if found.replace(" ", "") != declared.replace(" ", ""):
                raise GraphTextError(name, expected=declared, found=found, remedy="correct the type in the text, or leave it out")


def _origin(op: OpDef, operands: Operands, rank: int) -> Origin:
    """As if the op had been spelled in its first way, in the module that holds its weight."""
    weight = operands.get("weight")
    path = str(weight.target).rpartition(".")[0] if isinstance(weight, Node) else ""
    targets = [spelling.target for spelling in op.spellings if spelling.rank == rank] or [spelling.target for spelling in op.spellings]
    object_type = qualified_name(targets[0]) if targets else op.name
    is_module = bool(targets) and isinstance(targets[0], type) and bool(path)
    return Origin(path, object_type, module_type=object_type if is_module else "")


def _first_type(declared: str) -> tuple[tuple[int, ...], torch.dtype]:
    match = _TYPE.fullmatch(declared)
    if match is None:
        raise GraphTextError("input", expected="a type like f32[1, 3, 8, 8]", found=declared, remedy="give the input's dtype and shape")
    return tuple(int(size) for size in match[2].split(",") if size.strip()), _DTYPES[match[1]]


def _made_up(path: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(path.encode()))
    if not dtype.is_floating_point:
        limits = torch.iinfo(dtype)
        return torch.randint(max(limits.min, -128), min(limits.max, 255) + 1, shape, generator=generator, dtype=dtype)
    values = torch.randn(shape, generator=generator) if len(shape) > 1 else torch.rand(shape, generator=generator) + 0.5
    return values.to(dtype)


def _example(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return _made_up("example", shape, dtype) if dtype != torch.bool else torch.ones(shape, dtype=torch.bool)
