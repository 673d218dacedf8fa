"""torch.compile and torch.export take converted models, and what comes of it has the same bits."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.lowering.executable import regions_of
from fxq.runtime.dynamic.operator import run_rows
from fxq.runtime.jit import CompiledRegion, register, run_region
from fxq.runtime.region import Region, Step, Value
from tests.lowering.test_executable import Net, batch


class Attention(nn.Module):
    """Products of activations, softmax and norms between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(7, 24)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mix(x.flatten(1, 2)).chunk(3, -1)
        found: Tensor = self.out(self.norm(torch.softmax(q @ k.transpose(1, 2), -1) @ v))
        return found


class Resizing(nn.Module):
    """Pooling, transposed convolution, resizing and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.slopes = nn.PReLU(4)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.max_pool2d(nn.functional.hardswish(self.down(x)), 2)
        y = self.slopes(self.up(y))
        y = y * torch.sigmoid(nn.functional.adaptive_avg_pool2d(y, 1))
        return nn.functional.interpolate(y, scale_factor=2, mode="nearest")


MODELS = (Net, Attention, Resizing)


def int8(model: type[nn.Module]) -> fxq.FxqModule:
    torch.manual_seed(0)
    return fxq.quantize(model().eval(), [batch()], progress=False)


@pytest.fixture(autouse=True)
def no_graphs_of_other_tests() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("model", MODELS)
def test_compiled_in_one_graph(model: type[nn.Module]) -> None:
    made = int8(model)
    compiled = torch.compile(made, backend="aot_eager", fullgraph=True)
    for count in (2, 5, 3):  # the second batch size makes it a symbol
        assert torch.equal(compiled(batch(1, count)), made(batch(1, count)))


def test_models_that_were_never_called() -> None:
    made, loaded = int8(Net), int8(Net)
    loaded.load_state_dict(made.state_dict())
    for model in (copy.deepcopy(made), loaded):
        assert torch.equal(torch.compile(model, backend="eager", fullgraph=True)(batch(1)), made(batch(1)))


def test_regions_are_called_as_one_operator() -> None:
    made, graphs = int8(Net), []

    def keep(module: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(module)
        return module

    torch.compile(made, backend=keep)(batch())
    (graph,) = graphs
    calls = [node for node in graph.graph.nodes if "fxq.region" in str(node.target) or node.target is run_region]
    assert len(calls) == len(regions_of(made)) == 2


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("length", [None, torch.export.Dim("length", max=64)], ids=["fixed", "any"])
def test_exported_with_torchs_own_operators(model: type[nn.Module], length: object) -> None:
    made, file = int8(model), io.BytesIO()
    shapes = None if length is None else ({0: length},)
    torch.export.save(torch.export.export(made, (batch(1),), dynamic_shapes=shapes, strict=False), file)
    file.seek(0)
    loaded = torch.export.load(file)
    assert [node for node in loaded.graph.nodes if "fxq" in str(node.target)] == []
    for count in (2,) if length is None else (2, 7):
        assert torch.equal(loaded.module()(batch(2, count)), made(batch(2, count)))


def test_layers_that_quantize_what_arrives() -> None:
    torch.manual_seed(0)
    float_model, mapping = Attention().eval(), fxq.QConfigMapping().set_global(fxq.per_channel_dynamic_qconfig)
    made = fxq.convert_fx(fxq.prepare_fx(float_model, mapping, (batch(),)))
    exported = torch.export.export(made, (batch(1),)).module()
    compiled = torch.compile(made, backend="aot_eager")
    for model in (exported, compiled):
        assert torch.equal(model(batch(2)), made(batch(2)))


class Looked(nn.Module):
    """Rows of a table in few bits in front of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.out = nn.Embedding(30, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, words: Tensor) -> Tensor:
        found: Tensor = self.out(self.mix(self.embed(words)).relu())
        return found


def test_modules_that_quantize_what_arrives_are_operators() -> None:
    torch.manual_seed(0)
    spec = {nn.Linear: fxq.per_row_dynamic_qconfig, nn.Embedding: fxq.float_qparams_weight_only_qconfig}
    made, names = fxq.quantize_dynamic(Looked(), spec), []

    def keep(module: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        names.extend(str(node.target) for node in module.graph.nodes if "fxq" in str(node.target))
        return module

    compiled = torch.compile(copy.deepcopy(made), backend=keep, fullgraph=True)
    for sizes in ((2, 7), (3, 4), (1, 5)):
        words = torch.randint(0, 30, sizes, generator=torch.Generator().manual_seed(0))
        assert torch.equal(compiled(words), made(words))
    assert names[:3] == ["fxq.rows.default"] * 3
    torch.library.opcheck(run_rows, (torch.randn(2, 8), made.out.number))
    torch.library.opcheck(run_rows, (torch.tensor([[1, 2]]), made.embed.number))


# --- the operator ----------------------------------------------------------------------------------------------------------


def test_operator_keeps_torchs_rules() -> None:
    region = regions_of(int8(Net))[0]
    torch.library.opcheck(run_region, ([batch()], register(region)))


def test_results_have_memory_of_their_own() -> None:
    steps = (
        Step("turned", torch.transpose, (Value(0), 0, 1), {}),
        Step("same", torch.Tensor.view, (Value(0), -1), {}),
        Step("sum", torch.add, (Value(0), 1), {}),
        Step("view", torch.Tensor.view, (Value(3), -1), {}),
    )
    region = CompiledRegion(Region("views", 1, steps, (1, 2, 3, 4)))
    x = torch.arange(6, dtype=torch.int32).view(2, 3)
    found = run_region([x], register(region))
    assert all(torch.equal(y, expected) for y, expected in zip(found, (x.t(), x.view(-1), x + 1, (x + 1).view(-1)), strict=True))
    assert all(y.is_contiguous() for y in found)
    assert len({y.untyped_storage().data_ptr() for y in (x, *found)}) == 5


def test_a_region_that_is_gone() -> None:
    number = register(CompiledRegion(Region("gone", 1, (), (0,))))
    with pytest.raises(KeyError):
        run_region([batch()], number)
