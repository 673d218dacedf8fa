"""Modules whose forward stays Python, and the graphs of the modules that they call."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import CaptureError, ConfigError
from fxq.graph.islands import graphs_of, parts_of
from fxq.graph.module import FxqModule
from fxq.graph.reasons import Why
from fxq.graph.text import print_graph
from fxq.passes.trace import trace
from fxq.passes.whole import TraceOptions
from fxq.report import Kind
from tests.passes.cases import text

X = torch.linspace(-1, 1, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)


class Block(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 1))


class Scaled(nn.Module):
    """Traceable, with an attribute that its caller reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.factor = 2.0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class Inner(nn.Module):
    """Decides by data, too."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return y if y.abs().max() < 100 else y / 100


class Outer(nn.Module):
    """A model of which torch.fx can read neither the whole nor `inner`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 3, padding=1)
        self.scaled = Scaled()
        self.inner = Inner()
        self.heads = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])

    def forward(self, x: Tensor, verbose: bool = False) -> dict[str, Tensor]:
        y = self.scaled(self.stem(x)) * self.scaled.factor
        if y.sum() > 1000:
            y = -y
        y = self.inner(y).mean((2, 3))
        return {"scores": self.heads[0](y), "boxes": self.heads[1](y)}


def outer() -> Outer:
    torch.manual_seed(0)
    return Outer().eval()


def places(module: FxqModule) -> list[str]:
    """Where graphs are, by the first module that each calls."""
    return sorted(next(row.what for row in fxq.report(graph).rows if row.what.partition(" ")[2]) for graph in graphs_of(module)[1:])


def test_the_model_is_one_call_and_what_it_calls_are_graphs() -> None:
    traced = trace(outer(), X)
    assert print_graph(traced) == text("""
        x: f32[2, 3, 4, 4] = input
        verbose = input False
        assume = call fxq.runtime.assumptions.assume(verbose, False, "argument 'verbose'")
        model = Outer[model](x, verbose=verbose)
        output model
    """).replace("assume = call fxq.runtime.assumptions.assume(verbose, False, \"argument 'verbose'\")\n", "")
    assert [(graph.path, len(graph.graph.nodes)) for graph in graphs_of(traced)[1:]] == [
        ("", 3), ("scaled", 3), ("inner.block", 6), ("heads", 3), ("heads", 3),
    ]  # fmt: skip
    assert print_graph(graphs_of(traced)[2]) == text("""
        x: f32[2, 3, 4, 4] = input
        conv: f32[2, 3, 4, 4] = Conv2d[conv](x)
        output conv
    """)


def test_the_users_model_is_left_alone() -> None:
    model = outer()
    before, kinds = copy.deepcopy(model.state_dict()), [type(module) for module in model.modules()]
    int8 = fxq.quantize(model, [X], progress=False)
    int8(X)
    assert [type(module) for module in model.modules()] == kinds
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("copied", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["itself", "copy", "pickle"])
def test_all_of_the_way_to_int8(copied: Callable[[FxqModule], FxqModule]) -> None:
    model = outer()
    prepared = copied(fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), X))
    exact = model(X)
    assert all(torch.allclose(prepared(X)[name], exact[name], atol=1e-5) for name in exact)
    reference = copied(fxq.convert_to_reference_fx(prepared))
    int8 = copied(fxq.convert_fx(prepared))
    for name in exact:
        assert (int8(X)[name] - exact[name]).abs().max() < 0.05 * exact[name].abs().max()
        assert torch.allclose(int8(X)[name], reference(X)[name], atol=0.02)
    assert int8(torch.randn(5, 3, 6, 4), verbose=True)["boxes"].shape == (5, 2)


def test_the_report_counts_what_is_inside_and_lists_every_island() -> None:
    int8 = fxq.quantize(outer(), [X], progress=False)
    found = fxq.report(int8)
    pixels = 2 * 4 * 4
    assert found.totals.macs == found.totals.macs_int8 == pixels * (3 * 27 + 3 * 9) + 2 * 2 * 6 and not found.totals.not_counted
    assert found.totals.heavy == found.totals.heavy_int8 == 6
    islands = [row for row in found.rows if row.reason is not None and row.reason.why is Why.UNTRACEABLE]
    assert [(row.name, row.what, row.kind) for row in islands] == [
        ("model", "Outer", Kind.FLOAT), ("inner", "Inner inner", Kind.FLOAT),
    ]  # fmt: skip
    first = Outer.forward.__code__.co_firstlineno
    assert islands[0].reason is not None and islands[1].reason is not None
    assert islands[0].reason.detail.endswith(f"{Path(__file__)}:{first + 2}") and "`if y.sum() > 1000:`" in islands[0].reason.detail
    assert "if y.abs().max() < 100 else y / 100`" in islands[1].reason.detail
    assert {"stem", "scaled.conv", "inner.block._0", "heads.0", "heads.1"} <= {row.module or row.name for row in found.rows} | {
        row.name for row in found.rows
    }
    assert len({row.name for row in found.rows}) == len(found.rows)
    assert "inner.block.0" in str(found)


class Branches(nn.Module):
    """Takes one of two layers, and uses the weight of a third without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.positive, self.negative, self.read = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return cast(Tensor, self.positive(x))
        return cast(Tensor, self.negative(x) @ self.read.weight)


def test_what_the_example_inputs_do_not_reach_is_listed() -> None:
    """A branch that is not taken, and a weight without a call."""
    reached, other = torch.ones(2, 4), -torch.ones(2, 4)
    for example, missed in ((reached, {"negative", "read"}), (other, {"positive"})):
        rows = {row.name: row for row in fxq.report(fxq.prepare_fx(Branches().eval(), fxq.get_default_qconfig_mapping(), example)).rows}
        assert {name for name, row in rows.items() if row.reason is not None and row.reason.why is Why.NOT_REACHED} == missed
        assert all(rows[name].what == f"Linear {name}" and rows[name].kind is Kind.FLOAT for name in missed)
    assert rows["read"].reason is not None and "also uses its weight" in rows["read"].reason.detail


def test_strict_is_an_error() -> None:
    with pytest.raises(CaptureError, match=r"Outer, the model itself, [\s\S]*if y.sum\(\) > 1000"):
        fxq.prepare_fx(outer(), fxq.get_default_qconfig_mapping("x86"), X, strict=True)


def test_rules_speak_of_the_users_paths_wherever_they_are() -> None:
    mapping = fxq.get_default_qconfig_mapping("x86").set_module_name("inner", None).set_module_name("heads.1", None)
    int8 = fxq.convert_fx(_calibrated(fxq.prepare_fx(outer(), mapping, X)))
    floats = {row.module for row in fxq.report(int8).rows if row.reason is not None and row.reason.why is Why.SWITCHED_OFF}
    assert {"inner.block.0", "inner.block.3", "heads.1"} <= floats and "heads.0" not in floats
    with pytest.raises(ConfigError, match=r"inner\.blok[\s\S]*inner\.block"):
        fxq.prepare_fx(outer(), fxq.get_default_qconfig_mapping("x86").set_module_name("inner.blok", None), X)


def test_calls_of_one_type_are_counted_over_all_graphs() -> None:
    mapping = fxq.get_default_qconfig_mapping("x86").set_module_name_object_type_order("heads", nn.Linear, 1, None)
    floats = [
        row.module for row in fxq.report(fxq.prepare_fx(outer(), mapping, X)).rows if row.reason and row.reason.why is Why.SWITCHED_OFF
    ]
    assert floats == ["heads.1"]


def test_layers_can_be_turned_off_and_keep_their_weights_at_conversion() -> None:
    model, off = outer(), fxq.QConfigMapping().set_module_name("inner.block.3", None)
    prepared = _calibrated(fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), X))
    int8 = fxq.convert_fx(prepared, qconfig_mapping=off, keep_original_weights=True)
    assert set(int8.original_weights_lookup) == {"stem", "scaled.conv", "inner.block.0", "heads.0", "heads.1"}
    assert torch.equal(int8.original_weights_lookup["heads.1"].weight, model.heads[1].weight)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"inner\.blok"):
        fxq.convert_fx(prepared, qconfig_mapping=fxq.QConfigMapping().set_module_name("inner.blok", None))


def test_custom_configs_reach_into_islands() -> None:
    config = fxq.PrepareCustomConfig().set_non_traceable_module_names(["inner"])
    config.set_standalone_module_name("scaled", None, (X,))
    prepared = _calibrated(fxq.prepare_fx(outer(), fxq.get_default_qconfig_mapping("x86"), X, config))
    kinds = {row.what: row.reason.why for row in fxq.report(prepared).rows if row.reason is not None}
    assert kinds["Inner inner"] is Why.KEPT_WHOLE and kinds["Scaled scaled"] is Why.STANDALONE
    int8 = fxq.convert_fx(prepared)
    assert (int8(X)["boxes"] - outer()(X)["boxes"]).abs().max() < 0.05


def test_fusion_reaches_into_islands() -> None:
    fused = fxq.fuse_fx(outer(), X)
    block = next(graph for graph in graphs_of(fused) if graph.path == "inner.block")
    assert [node.op for node in block.graph.nodes].count("call_function") == 2


# --- what cannot be replaced ---------------------------------------------------------------------------------------------------


class Using(nn.Module):
    """Uses more of its child than calls."""

    def __init__(self, child: nn.Module, use: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.child = child
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        y = self.use(self.child, x)
        return y if y.sum() < 1e6 else -y


def kept(module: FxqModule) -> dict[str, str]:
    return {path: stays.reason.detail for path, stays in module.islands.items()}


@pytest.mark.parametrize(
    ("child", "use", "detail"),
    [
        (lambda: nn.Conv2d(3, 3, 1), lambda c, x: c(x) * c.weight.sum(), "also uses its weight"),
        (Block, lambda c, x: c[0](x) + c(x), "also uses its modules by index"),
        (Scaled, lambda c, x: c(x) + c.conv(x), "also uses its conv"),
        (Scaled, lambda c, x: c(x).to(next(c.parameters()).dtype), "also uses its parameters"),
        (Scaled, lambda c, x: c(x) * c.factor, None),
    ],
    ids=["weight", "index", "child", "parameters", "a number"],
)
def test_what_is_used_in_other_ways_stays(child: Callable[[], nn.Module], use: Any, detail: str | None) -> None:
    model = Using(child(), use).eval()
    traced = trace(model, X)
    assert torch.allclose(traced(X), model(X), atol=1e-5)
    assert list(kept(traced)) == (["child"] if detail else [])
    assert all(detail is not None and detail in found for found in kept(traced).values())
    int8 = fxq.quantize(model, [X], progress=False)
    assert (int8(X) - model(X)).abs().max() < 0.1 * model(X).abs().max()


def test_a_child_that_is_called_in_several_forms_runs_on_all_or_stays() -> None:
    def same(child: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = child(x) + child(x[:1])
        return y

    def other(child: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = child(x) + child(x[:1].expand(7, -1, -1, -1))[:2]
        return y

    class OnlyTwo(Scaled):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x) if x.shape[0] <= 2 else self.conv(x) * 2
            return y

    assert not kept(trace(Using(OnlyTwo(), same).eval(), X))
    traced = trace(Using(OnlyTwo(), other).eval(), X)
    assert "its graph does not run on all that it is called with" in kept(traced)["child"]
    assert [graph.path for graph in graphs_of(traced)] == ["", "child"]  # what it calls is a graph


class Rows:
    """Keeps what it is given, as a decoder's cache of keys does."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def update(self, x: Tensor) -> Tensor:
        self.kept.append(x)
        return torch.cat(self.kept, 2)


class Caching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        y = rows.update(self.conv(x))
        return y * 2 if y.size(2) == x.size(2) else y


class Decoder(nn.Module):
    """Gives its parts an object to write into, and returns it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Caching(), Caching()

    def forward(self, x: Tensor) -> tuple[Tensor, Rows]:
        rows = Rows()
        y = self.second(self.first(x, rows), Rows())
        return y, rows


def test_objects_that_parts_write_into_are_those_of_each_call() -> None:
    model = Decoder().eval()
    int8 = fxq.quantize(model, [X], progress=False)
    assert isinstance(int8.get_submodule("model.first"), FxqModule)
    exact, kept = model(X)
    for _ in range(2):
        found, rows = int8(X)
        assert (found - exact).abs().max() < 0.05 * exact.abs().max()
        assert len(rows.kept) == len(kept.kept) == 1 and rows.kept[0].shape == X.shape


def test_hooks_go_on_running() -> None:
    model, calls = Using(Block(), lambda c, x: c(x)).eval(), []
    model.child.register_forward_hook(lambda *_: calls.append(1))
    traced = trace(model, X)
    before = len(calls)
    traced(X)
    assert len(calls) == before + 1 and "has forward hooks" in kept(traced)["child"]


def test_a_shared_child_is_one_graph() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = Block()
            self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.second(self.first(x))
            return y if y.sum() < 1e6 else -y

    traced = trace(Twice().eval(), X)
    island = traced.get_submodule("model")
    assert island.first is island.second and isinstance(island.first, FxqModule) and len(list(parts_of(island))) == 1


def test_a_model_that_does_not_run_without_its_own_children_stays_float() -> None:
    class Particular(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()

        def forward(self, x: Tensor) -> Tensor:
            if not isinstance(self.block, Block):
                raise TypeError("where is my block?")
            y: Tensor = self.block(x)
            return y if y.sum() < 1e6 else -y

    model = Particular().eval()
    traced = trace(model, X)
    assert torch.equal(traced(X), model(X)) and "where is my block?" in kept(traced)[""]
    with pytest.raises(CaptureError):
        trace(model, X, TraceOptions(strict=True))


def _calibrated(prepared: FxqModule) -> FxqModule:
    fxq.calibrate(prepared, [X], progress=False)
    return prepared


def _fills_in(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that says what None stands for, by keyword."""

    @functools.wraps(forward)
    def wrapper(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        factor = kwargs.pop("factor", None)
        return forward(self, *args, **kwargs, factor=2.0 if factor is None else factor)

    return wrapper


class Decorated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    @_fills_in
    def forward(self, x: Tensor, mask: Tensor | None = None, factor: float | None = None) -> Tensor:
        y: Tensor = self.conv(x if mask is None else x * mask)
        return y * factor if y.sum() < 1000 else y


@pytest.mark.parametrize("inputs", [(X,), {"x": X}, {"x": X, "mask": X > 0}, (X, X > 0)], ids=["place", "keyword", "both", "two places"])
def test_an_island_is_called_as_the_model_is(inputs: Any) -> None:
    model = Decorated().eval()
    traced = trace(model, inputs)
    args, kwargs = (inputs, {}) if isinstance(inputs, tuple) else ((), inputs)
    assert torch.equal(traced(*args, **kwargs), model(*args, **kwargs))
