"""nn.Module → the calls it makes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import CaptureError, DataError, StageError
from fxq.graph.annotation import origin_of
from fxq.graph.module import FxqModule
from fxq.graph.source import is_user_code
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.passes.arguments import Inputs, split_inputs
from fxq.passes.trace import trace
from fxq.passes.whole import TraceOptions
from tests.passes.cases import Block, residual, text


def of_function(function: Callable[..., Any]) -> nn.Module:
    """A model whose forward is the function; its first parameter is self."""

    return type("Model", (nn.Module,), {"forward": function})()


def origins(module: FxqModule) -> dict[str, tuple[str, str, int, str]]:
    found = {node.name: origin_of(node) for node in module.graph.nodes}
    return {name: (o.module, o.object_type, o.index, o.module_type) for name, o in found.items() if o is not None}


def test_the_graph_has_the_users_calls() -> None:
    module = trace(residual(), torch.zeros(2, 3, 8, 8))
    assert module.stage is Stage.TRACED
    assert print_graph(module) == text("""
        x: f32[2, 3, 8, 8] = input
        stem_conv: f32[2, 4, 8, 8] = Conv2d[stem.conv](x)
        stem_bn: f32[2, 4, 8, 8] = BatchNorm2d[stem.bn](stem_conv)
        stem_relu: f32[2, 4, 8, 8] = ReLU[stem.relu](stem_bn)
        body_0_conv: f32[2, 4, 8, 8] = Conv2d[body.0.conv](stem_relu)
        body_0_bn: f32[2, 4, 8, 8] = BatchNorm2d[body.0.bn](body_0_conv)
        body_0_relu: f32[2, 4, 8, 8] = ReLU[body.0.relu](body_0_bn)
        body_1: f32[2, 4, 8, 8] = Conv2d[body.1](body_0_relu)
        add: f32[2, 4, 8, 8] = call _operator.add(body_1, stem_relu)
        relu: f32[2, 4, 8, 8] = call torch.relu(add)
        pool: f32[2, 4, 1, 1] = AdaptiveAvgPool2d[pool](relu)
        flatten: f32[2, 4] = call torch.flatten(pool, 1)
        fc: f32[2, 5] = Linear[fc](flatten)
        output fc
    """)


def test_values_are_preserved() -> None:
    model, x = residual(), torch.randn(2, 3, 8, 8)
    assert torch.equal(trace(model, x)(x), model(x))


def test_the_model_is_copied() -> None:
    model = residual()
    before = copy.deepcopy(model.state_dict())
    module = trace(model, torch.zeros(2, 3, 8, 8))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())


def test_a_traced_model_is_not_traced_again() -> None:
    x = torch.zeros(2, 3, 8, 8)
    with pytest.raises(StageError, match="expected: the float model\n  found:    a model at stage TRACED"):
        trace(trace(residual(), x), x)


def test_origins_name_module_type_index_and_line() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.block(x)
            z = torch.add(y, x)
            return torch.add(z, self.block(z)).view(-1)

    module = trace(Model(), torch.zeros(1, 3, 4, 4))
    name = f"{__name__}.test_origins_name_module_type_index_and_line.<locals>.Model"
    assert origins(module) == {
        "block_conv": ("block.conv", "torch.nn.Conv2d", 0, "torch.nn.Conv2d"),
        "block_bn": ("block.bn", "torch.nn.BatchNorm2d", 0, "torch.nn.BatchNorm2d"),
        "block_relu": ("block.relu", "torch.nn.ReLU", 0, "torch.nn.ReLU"),
        "add": ("", "torch.add", 0, name),
        "block_conv_1": ("block.conv", "torch.nn.Conv2d", 1, "torch.nn.Conv2d"),
        "block_bn_1": ("block.bn", "torch.nn.BatchNorm2d", 1, "torch.nn.BatchNorm2d"),
        "block_relu_1": ("block.relu", "torch.nn.ReLU", 1, "torch.nn.ReLU"),
        "add_1": ("", "torch.add", 1, name),
        "view": ("", "view", 0, name),
    }
    lines, first = inspect.getsourcelines(Model)
    for node_name, written in (("add", "z = torch.add"), ("add_1", "return torch.add"), ("block_conv", None)):
        (node,) = (node for node in module.graph.nodes if node.name == node_name)
        origin = origin_of(node)
        assert origin is not None
        if written is not None:
            (offset,) = (offset for offset, line in enumerate(lines) if written in line)
            assert origin.source == f"{__file__}:{first + offset}"


def test_calls_that_no_line_of_the_model_makes_have_no_source() -> None:
    """The modules of a Sequential are called by torch; the line that asks for the trace is not the model's."""
    module = trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.ones(1, 2))
    assert [origin.source for node in module.graph.nodes if (origin := origin_of(node)) is not None] == ["", ""]


def test_a_package_whose_path_begins_like_torchs_is_user_code() -> None:
    """…/torchvision is not …/torch."""
    torch_folder, own_folder = Path(torch.__file__).parent, Path(fxq.__file__).parent
    assert not is_user_code(str(torch_folder / "nn" / "functional.py"))
    assert not is_user_code(str(own_folder / "api.py"))
    assert not is_user_code("<eval_with_key>.1")
    assert not is_user_code(inspect.__file__)
    assert is_user_code(str(torch_folder.with_name("torchvision") / "models" / "resnet.py"))
    assert is_user_code(str(own_folder.with_name("fxq_models") / "net.py"))


def test_containers_are_traced_through() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 3))])
            self.heads = nn.ModuleDict({"a": nn.Linear(3, 1), "b": nn.Linear(3, 2)})

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            for layer in self.layers:
                x = layer(x)
            return {name: head(x) for name, head in self.heads.items()}

    assert print_graph(trace(Model(), torch.zeros(2, 3))) == text("""
        x: f32[2, 3] = input
        layers_0: f32[2, 3] = Linear[layers.0](x)
        layers_1_0: f32[2, 3] = ReLU[layers.1.0](layers_0)
        layers_1_1: f32[2, 3] = Linear[layers.1.1](layers_1_0)
        heads_a: f32[2, 1] = Linear[heads.a](layers_1_1)
        heads_b: f32[2, 2] = Linear[heads.b](layers_1_1)
        output {'a': heads_a, 'b': heads_b}
    """)


def test_a_shared_module_is_called_twice_under_its_first_path() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    module = trace(Model(), torch.zeros(2, 3))
    assert print_graph(module) == text("""
        x: f32[2, 3] = input
        first: f32[2, 3] = Linear[first](x)
        first_1: f32[2, 3] = Linear[first](first)
        output first_1
    """)
    assert [origin[2] for origin in origins(module).values()] == [0, 1]


@pytest.mark.parametrize(
    "inputs",
    [torch.zeros(2, 3), (torch.zeros(2, 3),), [torch.zeros(2, 3)], {"x": torch.zeros(2, 3)}, {"x": torch.zeros(2, 3), "factor": 3.0}],
    ids=["tensor", "tuple", "list", "dict", "dict with an optional one"],
)
def test_example_inputs_in_every_form(inputs: Any) -> None:
    def forward(self: nn.Module, x: Tensor, factor: float = 2.0) -> Tensor:
        return x * factor

    module = trace(of_function(forward), inputs)
    assert print_graph(module) == text("""
        x: f32[2, 3] = input
        factor = input 2.0
        mul: f32[2, 3] = call _operator.mul(x, factor)
        output mul
    """)


def test_split_inputs() -> None:
    x, y = torch.zeros(1), torch.ones(1)
    assert split_inputs((x, y)) == Inputs((x, y))
    assert split_inputs([x]) == Inputs((x,))
    assert split_inputs(x) == Inputs((x,))
    assert split_inputs({"a": y}) == Inputs((), {"a": y})
    with pytest.raises(CaptureError, match=r"example_inputs\n.*\n  found:    int"):
        split_inputs(3)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class Nested(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.outer = nn.Sequential(nn.ReLU(), inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(x)


def line_of(kind: type, written: str) -> str:
    lines, first = inspect.getsourcelines(kind)
    (offset,) = (offset for offset, line in enumerate(lines) if written in line)
    return f"{__file__}:{first + offset}"


@pytest.mark.parametrize("nested", [False, True], ids=["model", "submodule"])
def test_what_cannot_be_traced_names_submodule_line_construct_and_remedy(nested: bool) -> None:
    model = Nested(Branch()) if nested else Branch()
    with pytest.raises(CaptureError) as caught:
        trace(model, torch.ones(3), TraceOptions(strict=True))
    error = caught.value
    place = "submodule 'outer.1'" if nested else "the model itself"
    assert error.where == f"{type(model).__name__}, {place}, {line_of(Branch, 'if x.sum() > 0:')}"
    assert error.found.startswith("`if x.sum() > 0:` — TraceError: it depends on the elements of a tensor")
    assert "torch.fx.wrap" in error.remedy


def test_an_error_of_the_users_code_names_its_line() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no such mode")

    with pytest.raises(CaptureError, match=r"`raise ValueError\(\"no such mode\"\)` — ValueError: no such mode"):
        trace(Model(), torch.ones(3))


def test_inputs_of_the_wrong_shape_name_the_layer() -> None:
    with pytest.raises(CaptureError) as caught:
        trace(Nested(nn.Linear(4, 2)), torch.ones(2, 3))
    assert caught.value.where.startswith("outer_1 (outer.1, ")
    assert "cannot be multiplied" in caught.value.found


def test_missing_and_unknown_inputs() -> None:
    model = of_function(lambda self, x, y: x + y)
    with pytest.raises(CaptureError, match="a value for y"):
        trace(model, torch.ones(2))
    with pytest.raises(CaptureError, match="unknown z"):
        trace(model, {"x": torch.ones(2), "z": torch.ones(2)})
    with pytest.raises(CaptureError, match="3 positional"):
        trace(model, (torch.ones(2), torch.ones(2), torch.ones(2)))


def test_a_tuple_has_the_types_of_its_items() -> None:
    module = trace(of_function(lambda self, x: torch.sort(x)[0]), torch.ones(3))
    assert print_graph(module) == text("""
        x: f32[3] = input
        sort: (f32[3], i64[3]) = call torch.sort(x)
        getitem: f32[3] = call _operator.getitem(sort, 0)
        output getitem
    """)


class Switched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, double: bool = False, shift: float = 1.0) -> torch.Tensor:
        y = self.linear(x) + shift
        if mask is not None:
            y = y * mask
        return y * 2 if double else y


X, MASK = torch.randn(2, 4), torch.rand(2, 4)


@pytest.mark.parametrize(
    "inputs",
    [(X,), (X, None), (X, MASK), (X, None, True), {"x": X, "double": True}, {"x": X, "mask": MASK, "shift": 3.0}],
    ids=["defaults", "None given", "mask", "positional switch", "keyword switch", "keywords"],
)
def test_control_flow_is_traced_for_the_arguments_that_are_given(inputs: Any) -> None:
    model = Switched().eval()
    given = split_inputs(inputs)
    assert torch.equal(trace(model, inputs)(*given.args, **given.kwargs), model(*given.args, **given.kwargs))


def test_another_value_of_a_constant_argument_is_an_error() -> None:
    traced = trace(Switched().eval(), (X,))
    with pytest.raises(DataError, match=r"argument 'mask'\n  expected: None, as .*\n  found:    a tensor of shape \(2, 4\)"):
        traced(X, mask=MASK)
    with pytest.raises(DataError, match=r"argument 'double'\n  expected: False"):
        traced(X, double=True)
