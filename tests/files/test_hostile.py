"""Files made with harm in mind, checksum and all: an error, and nothing is run or imported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import fxq
from tests.files.hostile import Edit, node, rewrite


def _node(kind: str, /, **changes: Any) -> Edit:
    return lambda document: node(document, kind).update(changes)


def _model(**changes: Any) -> Edit:
    return lambda document: document["model"].update(changes)


def _module(kind: str, /, **changes: Any) -> Edit:
    return lambda document: next(each for each in document["model"]["modules"] if each["kind"] == kind).update(changes)


def _conv(**arguments: Any) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        (conv,) = (each for each in document["model"]["modules"] if each.get("op") == "Conv")
        for name, value in arguments.items():
            target = conv["arguments"]["geometry"] if name in conv["arguments"]["geometry"] else conv["arguments"]
            target[name] = value

    return edit


def _deep(document: dict[str, Any]) -> None:
    value: Any = []
    for _ in range(400):
        value = [value]
    node(document, "function")["args"] = value


def _around(number: int) -> Any:
    return {"path": f"a{number}." + "a." * 50 + "a", "tensor": "fc.weight"}


def _code(text: str) -> Any:
    return {"dict": [[text, 1]]}


EDITS: dict[str, Edit] = {
    # names that are not in the tables
    "function of os": _node("function", target="os.system"),
    "eval": _node("function", target="builtins.eval"),
    "importing function": _node("function", target="torch.load"),
    "function that takes memory": _node("function", target="torch.from_file"),
    "function of the caller": _node("function", kind="known", target="os.system"),
    "method": _node("function", kind="method", target="__reduce__"),
    "method that reads memory": _node("function", kind="method", target="data_ptr"),
    "attribute": _node("function", kind="attribute", target="__class__", args=[{"node": "x"}], kwargs={}),
    "op": _node("op", target="system"),
    "operand": _node("op", kwargs={"shell": 1}),
    "module": _module("float", module="torch.nn.Module"),
    "integer op": _module("integer", op="IntegerOp"),
    # names that would be code
    "node name": _node("function", name="x = __import__('os').system('true')"),
    "keyword": _node("function", kwargs={"dim=__import__('os').system('true')": 1}),
    "name of an input": _node("input", target="x=__import__('os').system('true')"),
    "keyword of Python": _node("function", name="lambda"),
    "path of a module": _module("integer", path='a"); __import__("os").system("true"); ("'),
    "private path": _module("integer", path="__class__"),
    "path of many levels": _module("integer", path="a." * 64 + "a"),
    "modules around modules": lambda document: document["model"]["tensors"].extend(_around(number) for number in range(40)),
    "path of an attribute": _module("integer", path="training"),
    "two modules in one place": lambda document: document["model"]["modules"].append(document["model"]["modules"][0]),
    "tensor in the place of a module": lambda document: document["model"]["tensors"][0].update(path="conv"),
    "operands of a meaning": _node("module", meaning={"op": "conv", "inputs": ["__class__"]}),
    "too few operands of a meaning": _node("module", meaning={"op": "conv", "inputs": []}),
    "value in a meaning": _node("module", meaning={"op": "conv", "inputs": ["input"], "constants": {"stride": {"code": "1"}}}),
    # values that stand for nothing
    "unknown value": _node("function", args=[{"code": "1"}]),
    "two keys": _node("function", args=[{"tuple": [], "dict": []}]),
    "later node": _node("function", args=[{"node": "output"}]),
    "unknown dtype": _node("function", args=[{"dtype": "load"}]),
    "huge integer": _node("function", args=[10**30]),
    "list as a key": _node("function", args=[{"dict": [[[1], 2]]}]),
    "deep nesting": _deep,
    # graphs that are none
    "no output": lambda document: document["model"]["nodes"].pop(),
    "no nodes": _model(nodes=[]),
    "two outputs": lambda document: document["model"]["nodes"].append(document["model"]["nodes"][-1]),
    "the same name twice": lambda document: document["model"]["nodes"].insert(1, document["model"]["nodes"][0]),
    "no such tensor": _node("tensor", target="nowhere"),
    "no such module": _node("module", target="nowhere"),
    "a stage that is not stored": _model(stage="OBSERVED"),
    "no stage": _model(stage="COMPILED"),
    "integers that a float op reads": _node("input", type={"dtype": "uint8", "shape": [1]}),
    "range of integers": _node("op", quant={"output": {"dtype": "int8", "qmin": -127, "qmax": 1000}}),
    "unknown field": _model(code="import os"),
    "wrong type": _model(training="yes"),
    "preserved forward": _model(preserved=[{"name": "forward", "is_held": False, "value": 1}]),
    # integer ops that lowering would not make
    "stride 0": _conv(stride=[0, 1]),
    "negative padding": _conv(padding=[[-1, 0], [0, 0]]),
    "groups": _conv(groups=2),
    "rank": _conv(stride=[1], padding=[[0, 0]], dilation=[1]),
    "zero point": _conv(input_zero_point=10**6),
    "huge dilation": _conv(dilation=[2**40, 1]),
    "not a number": _conv(output={"low": "nan"}),
    "output": _conv(output={"dtype": "uint8", "zero_point": 0, "low": 5, "high": 3}),
    "bias of another tensor": lambda document: document["model"]["modules"][0]["tensors"][1].update(tensor="fc.weight"),
    "missing tensor": lambda document: document["model"]["modules"][0].update(tensors=[]),
    "unknown tensor": lambda document: document["model"]["modules"][0]["tensors"][1].update(tensor="nowhere"),
    "arguments of torch.nn": _module("float", arguments={"size": 2, "device": "cpu"}),
}


@pytest.mark.parametrize("name", EDITS)
def test_is_an_error(name: str, small_file: Path) -> None:
    modules = set(sys.modules)
    rewrite(small_file, EDITS[name])
    with pytest.raises(fxq.FileError) as error:
        fxq.load(small_file)
    assert len(str(error.value)) < 3000
    assert {each for each in set(sys.modules) - modules if not each.startswith(("fxq", "torch"))} == set()


def test_unchanged_it_loads(small_file: Path) -> None:
    """The edits above are what makes the errors."""
    rewrite(small_file, lambda document: None)
    fxq.load(small_file)
