"""FxqModule through copy, pickle and torch.save, at every stage of the compilation."""

from __future__ import annotations

import copy
import inspect
import io
import operator
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import fxq
from fxq.api import LOWER
from fxq.graph.annotation import annotations_of
from fxq.graph.module import FxqModule, find_function
from fxq.graph.ops import OPS
from fxq.graph.parse import parse_graph
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.lowering.profiles import find_profile
from fxq.passes import CONVERT, PREPARE, Context, Pass, run_pipeline, trace
from fxq.qconfig_mapping import get_default_qconfig_mapping


class Block(nn.Module):
    """Something of every kind: fused and plain convs, a residual, a shared conv, slices, a call that fxq does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.twice = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 5)
        self.register_buffer("offset", torch.arange(5.0))

    def forward(self, x: Tensor, scale: float = 2.0) -> dict[str, Any]:
        y = self.stem(x)
        y = F.relu(self.twice(self.twice(y)) + y)
        pooled = F.adaptive_avg_pool2d(y, 1)[..., 0, 0:1].reshape(x.size(0), -1)
        logits = self.head(pooled) + self.offset
        return {"logits": logits, "parts": [torch.sort(pooled, dim=1)[0] * scale, (x.shape[-1],)]}


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def compile_up_to(stage: Stage) -> FxqModule:
    torch.manual_seed(0)
    model = Block()
    model(X)  # running statistics of their own
    module = trace(model.eval(), X)
    module.profile = find_profile("x86")
    context = Context(module.profile, get_default_qconfig_mapping("x86"))
    for steps in _pipelines_up_to(stage):
        if steps[0].needs is Stage.OBSERVED:
            module(X)
        run_pipeline(module, steps, context)
    assert module.stage is stage
    return module


def _pipelines_up_to(stage: Stage) -> list[tuple[Pass, ...]]:
    """PREPARE, CONVERT and LOWER, up to the last pass that gives the stage."""
    last = max((number for number, step in enumerate(_STEPS) if step.gives is stage), default=-1)
    wanted = _STEPS[: last + 1]
    parts = (wanted[: len(PREPARE)], wanted[len(PREPARE) : len(PREPARE) + len(CONVERT)], wanted[len(PREPARE) + len(CONVERT) :])
    return [part for part in parts if part]


_STEPS = (*PREPARE, *CONVERT, *LOWER)


@cache
def at(stage: Stage) -> FxqModule:
    """The model at a stage. Not to be changed."""
    return compile_up_to(stage)


def through_pickle(module: FxqModule) -> FxqModule:
    loaded: FxqModule = pickle.loads(pickle.dumps(module))
    return loaded


def through_file(module: FxqModule) -> FxqModule:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded: FxqModule = torch.load(file, weights_only=False)
    return loaded


WAYS = {"deepcopy": copy.deepcopy, "pickle": through_pickle, "torch.save": through_file}
STAGES = pytest.mark.parametrize("stage", list(Stage), ids=lambda stage: stage.name)
EVERY_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def flat(value: Any) -> list[Any]:
    """A result of Block, as a list of tensors and numbers."""
    pooled, shape = value["parts"]
    assert list(value) == ["logits", "parts"]
    assert type(value["parts"]) is list and type(shape) is tuple
    return [value["logits"], pooled, *shape]


def same_results(one: nn.Module, other: nn.Module, x: Tensor = X) -> bool:
    with torch.no_grad():
        pairs = list(zip(flat(one(x)), flat(other(x)), strict=True))
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


@STAGES
@EVERY_WAY
def test_everything_comes_back(stage: Stage, way: Callable[[FxqModule], FxqModule]) -> None:
    module = at(stage)
    back = way(module)
    assert isinstance(back, FxqModule) and back is not module
    assert (back.stage, back.profile, back.training) == (stage, module.profile, False)
    assert print_graph(back) == print_graph(module)
    assert [node.name for node in back.graph.nodes] == [node.name for node in module.graph.nodes]
    assert [name for name, _ in back.named_modules()] == [name for name, _ in module.named_modules()]
    assert back.state_dict().keys() == module.state_dict().keys()
    assert all(torch.equal(back.state_dict()[path], value) for path, value in module.state_dict().items())
    assert same_results(back, module)


@STAGES
@EVERY_WAY
def test_annotations_come_back(stage: Stage, way: Callable[[FxqModule], FxqModule]) -> None:
    module, back = at(stage), way(at(stage))
    kept = {node.name: annotations_of(node) for node in back.graph.nodes}
    # a Resolution holds factories of observers, which are equal only as what they say
    assert {name: str(values) for name, values in kept.items()} == {node.name: str(annotations_of(node)) for node in module.graph.nodes}
    assert any(kept.values())


@STAGES
@EVERY_WAY
def test_a_copy_shares_no_tensor(stage: Stage, way: Callable[[FxqModule], FxqModule]) -> None:
    module = at(stage)
    before = {path: value.clone() for path, value in module.state_dict().items()}
    back = way(module)
    with torch.no_grad():
        for value in back.state_dict().values():
            value.zero_()
    assert before and all(torch.equal(module.state_dict()[path], value) for path, value in before.items())


@STAGES
def test_state_dict_carries_the_values(stage: Stage) -> None:
    module = at(stage)
    other = copy.deepcopy(module)
    with torch.no_grad():
        for value in other.state_dict().values():
            value.copy_(torch.full_like(value, 1))
    other.load_state_dict(module.state_dict())
    assert same_results(other, module)


@STAGES
def test_a_copy_of_a_copy_is_pickled_too(stage: Stage) -> None:
    assert same_results(through_pickle(copy.deepcopy(through_file(at(stage)))), at(stage))


@EVERY_WAY
def test_a_copied_observer_goes_on_by_itself(way: Callable[[FxqModule], FxqModule]) -> None:
    module = compile_up_to(Stage.OBSERVED)
    module(X)
    back = way(module)
    assert print_graph(fxq.convert_to_reference_fx(back)) == print_graph(fxq.convert_to_reference_fx(module))
    before = print_graph(fxq.convert_to_reference_fx(module))
    back(X * 10)
    assert print_graph(fxq.convert_to_reference_fx(module)) == before
    assert print_graph(fxq.convert_to_reference_fx(back)) != before


@EVERY_WAY
def test_a_module_in_training_mode_stays_in_it(way: Callable[[FxqModule], FxqModule]) -> None:
    assert way(compile_up_to(Stage.TRACED).train()).training


def test_the_copy_of_a_module_inside_another_is_one_too() -> None:
    outer = nn.ModuleDict({"a": at(Stage.FUSED)})
    outer["b"] = outer["a"]
    duplicate = copy.deepcopy(outer)
    assert duplicate["a"] is duplicate["b"] and duplicate["a"] is not outer["a"]


# --- shared, tied and parametrized weights ---------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(6, 6), nn.Linear(6, 6)
        self.decode.weight = self.encode.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(torch.relu(self.encode(x)))


@EVERY_WAY
def test_tied_weights_stay_tied(way: Callable[[FxqModule], FxqModule]) -> None:
    back = way(fxq.fuse_fx(Tied().eval(), torch.randn(2, 6)))
    assert back.get_parameter("encode.weight") is back.get_parameter("decode.weight")


class Weighted(nn.Module):
    """One conv, whose weight somebody computes."""

    def __init__(self, parametrization: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = parametrization(nn.Conv2d(3, 4, 3))
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


PARAMETRIZATIONS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "a class of the user": lambda conv: parametrize.register_parametrization(conv, "weight", Doubled()),
    "weight and bias": lambda conv: parametrize.register_parametrization(
        parametrize.register_parametrization(conv, "weight", Doubled()), "bias", Doubled()
    ),
}


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS.values(), ids=PARAMETRIZATIONS)
@EVERY_WAY
def test_parametrized_weights(way: Callable[[FxqModule], FxqModule], parametrization: Callable[[nn.Module], nn.Module]) -> None:
    model = Weighted(parametrization).eval()
    fused = fxq.fuse_fx(model, X)
    assert print_graph(way(fused)) == print_graph(fused)
    noise = (fused(X) - model.double()(X.double())).square().sum() / model(X.double()).square().sum()
    assert float(-10 * torch.log10(noise.detach())) > 120
    assert torch.equal(way(fused)(X), fused(X))


# --- arguments and functions -----------------------------------------------------------------------------------------------


@EVERY_WAY
def test_every_form_of_arguments(way: Callable[[FxqModule], FxqModule]) -> None:
    text = (
        "x: f32[4, 6] = input\n"
        "n: f32[4, 6] = call torch.neg(x)\n"
        "k = size(x, dim=0)\n"
        "s: f32[2, 3] = getitem(x, index=(slice(None, k, 2), slice(0, None, 2)))\n"
        "c: f32[8, 6] = call torch.cat([x, n], dim=0)\n"
        "p: f32[6, 4] = permute(x, dims=(1, 0))\n"
        "m: f32[4, 6] = method add(x, other=n, alpha=2)\n"
        "output {'s': [s, (c, {'p': p})], 1: m}\n"
    )
    module = parse_graph(text)
    back = way(module)
    assert print_graph(back) == text
    x = torch.arange(24.0).reshape(4, 6)
    assert str(back(x)) == str(module(x))


@pytest.mark.parametrize(
    "function", [*(row.call for row in OPS), torch.relu, F.relu, torch.nn.functional.conv2d, operator.getitem, getattr]
)
def test_functions_are_found_by_their_names(function: Callable[..., Any]) -> None:
    from torch.fx.node import _get_qualified_name

    assert find_function(_get_qualified_name(function)) is function


@pytest.mark.parametrize(("name", "error"), [("torch.no_such_function", AttributeError), ("no_such_builtin", AttributeError)])
def test_a_function_that_is_gone_is_an_error(name: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=name.rpartition(".")[2]):
        find_function(name)


# --- code that is generated when it is needed ------------------------------------------------------------------------------


def _has_code(module: FxqModule) -> bool:
    return "_code" in vars(module)


def test_code_is_generated_when_forward_is_looked_up() -> None:
    prepared = fxq.prepare_fx(Block().eval(), get_default_qconfig_mapping("x86"), (X,))
    stored = pickle.dumps(prepared)
    assert not _has_code(prepared)
    assert list(inspect.signature(prepared.forward).parameters) == ["x", "scale"]
    assert _has_code(prepared) and pickle.dumps(prepared) == stored


@pytest.mark.parametrize("look", [lambda module: module(X), lambda module: module.code, str], ids=["call", "code", "print"])
def test_changes_of_the_graph_change_the_code(look: Callable[[FxqModule], object]) -> None:
    module = trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval(), X)
    look(module)
    (relu,) = (node for node in module.graph.nodes if node.target == "1")
    relu.replace_all_uses_with(relu.args[0])
    module.graph.erase_node(relu)
    module.recompile()
    assert not _has_code(module)
    look(module)
    assert _has_code(module) and bool((module(X) < 0).any())


def test_threads_that_are_the_first_to_call() -> None:
    module = trace(Block().eval(), X)
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda _: module(X)["logits"], range(8)))
    assert all(torch.equal(each, module(X)["logits"]) for each in found)
