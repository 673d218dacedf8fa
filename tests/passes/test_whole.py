"""Modules that stay one call: those that cannot be traced, and those that the user names."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel

import fxq
from fxq.errors import CaptureError, ConfigError
from fxq.graph.annotation import whole_reason_of
from fxq.graph.module import FxqModule
from fxq.graph.reasons import Reason, Why
from fxq.graph.text import print_graph
from fxq.passes.trace import trace
from fxq.passes.tracer import OriginTracer
from fxq.passes.whole import TraceOptions, Whole
from tests.passes.cases import Residual, decisions, text, up_to

X = torch.linspace(-1, 1, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)


class Gate(nn.Module):
    """What torch.fx cannot read; it can be told apart from an identity."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        if y.sum() > 0:
            return y
        return -y


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.gates = nn.Sequential(Gate(), Gate())
        self.last = nn.Conv2d(3, 3, 1)
        self.labels = ["cat", "dog"]
        self.register_buffer("mean", torch.ones(3))
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.gates(self.first(x)))


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def reasons(module: FxqModule) -> dict[str, Reason]:
    return {node.name: reason for node in module.graph.nodes if (reason := whole_reason_of(node)) is not None}


def line_in(kind: type, written: str) -> str:
    lines, first = inspect.getsourcelines(kind)
    return f"{Path(__file__)}:{first + next(i for i, line in enumerate(lines) if written in line)}"


# --- what torch.fx cannot read -------------------------------------------------------------------------------------------------


def test_only_the_innermost_module_that_cannot_be_traced_stays_whole() -> None:
    assert print_graph(trace(net(), X)) == text("""
        x: f32[2, 3, 4, 4] = input
        first: f32[2, 3, 4, 4] = Conv2d[first](x)
        gates_0: f32[2, 3, 4, 4] = Gate[gates.0](first)
        gates_1: f32[2, 3, 4, 4] = Gate[gates.1](gates_0)
        last: f32[2, 3, 4, 4] = Conv2d[last](gates_1)
        output last
    """)


def test_the_reason_names_construct_and_line() -> None:
    found = reasons(trace(net(), X))
    assert set(found) == {"gates_0", "gates_1"}
    reason = found["gates_1"]
    assert reason.why is Why.UNTRACEABLE and reason.node == "gates_1"
    assert reason.detail.startswith("cannot be traced: `if y.sum() > 0:` — TraceError: ")
    assert reason.detail.endswith(f", {line_in(Gate, 'if y.sum')}")


def test_what_is_around_an_island_is_int8_and_the_report_says_why_it_is_not() -> None:
    int8 = fxq.quantize(net(), [X], progress=False)
    assert [fxq.report(int8).row(name).kind.value for name in ("first", "gates_0", "gates_1", "last")] == ["int8", "float", "float", "int8"]
    reason = fxq.report(int8).row("gates_0").reason
    assert reason is not None and reason.why is Why.UNTRACEABLE
    assert "cannot be traced" in str(fxq.report(int8))
    expected = net()(X)
    assert (int8(X) - expected).abs().max() < 0.05 * expected.abs().max()


def test_however_many_there_are_the_model_is_traced_twice() -> None:
    model = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), Gate()) for _ in range(5)))
    with mock.patch.object(OriginTracer, "trace", autospec=True, side_effect=OriginTracer.trace) as counted:
        found = reasons(trace(model, X))
    assert list(found) == [f"_{i}_1" for i in range(5)] and counted.call_count == 2


def test_strict_makes_it_an_error() -> None:
    with pytest.raises(CaptureError, match=r"submodule 'gates.0'[\s\S]*if y.sum\(\) > 0"):
        trace(net(), X, TraceOptions(strict=True))


def test_the_models_own_forward_can_be_an_island() -> None:
    found = reasons(trace(Gate(), X))
    assert list(found) == ["model"] and "if y.sum() > 0:" in found["model"].detail
    with pytest.raises(CaptureError, match="the model itself"):
        trace(Gate(), X, TraceOptions(strict=True))


class Caller(nn.Module):
    """Fails for what it calls a torch module with."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        self.relu(object())
        return x


def test_a_call_with_what_no_graph_can_hold_is_the_callers_failure() -> None:
    with pytest.raises(CaptureError, match=r"Caller, the model itself, [\s\S]*self.relu\(object\(\)\)"):
        trace(Caller(), X, TraceOptions(strict=True))
    with pytest.raises(CaptureError, match=r"model \(the model itself, [\s\S]*self.relu\(object\(\)\)"):
        trace(Caller(), X)


class Remembering(nn.Module):
    """Keeps what it sees; a failed trace must not leave its stand-ins there."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        before, self.seen = self.seen, x
        if x.sum() > 1000:
            return x
        return x if before is None else x + before


def test_an_island_starts_as_the_users_model_is() -> None:
    model = nn.Sequential(Remembering())
    traced = trace(model, X)
    assert torch.equal(traced(X), 2 * X)  # the second call: the first one was on the example inputs
    assert model[0].seen is None


def test_an_error_of_the_users_code_on_real_data_is_still_an_error() -> None:
    class Raising(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no such mode")

    with pytest.raises(CaptureError, match=r"^_0 \(0, [\s\S]*ValueError: no such mode"):
        trace(nn.Sequential(Raising()), X)


def test_islands_are_kept_through_copies_and_pickles() -> None:
    traced = trace(net(), X)
    for duplicate in (copy.deepcopy(traced), pickle.loads(pickle.dumps(traced))):
        assert reasons(duplicate) == reasons(traced)


# --- what the user names -------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


class Block2(Block):
    pass


def blocks() -> nn.Module:
    return nn.Sequential(Block(), nn.Sequential(Block(), Block2())).eval()


def called_whole(*wishes: Whole) -> list[str]:
    module = trace(blocks(), X, TraceOptions(whole=wishes))
    return [str(node.target) for node in module.graph.nodes if whole_reason_of(node) is not None]


def wish(target: str | type, why: Why = Why.KEPT_WHOLE) -> Whole:
    return Whole(target, why, "set_something")


def test_by_path_and_by_class() -> None:
    assert called_whole() == []
    assert called_whole(wish("1.0")) == ["1.0"]
    assert called_whole(wish("1")) == ["1"]
    assert called_whole(wish(Block)) == ["0", "1.0"]  # a subclass is another class
    assert called_whole(wish(Block2), wish("0")) == ["0", "1.1"]
    assert called_whole(wish("1"), wish("1.0")) == ["1"]


@pytest.mark.parametrize(
    ("target", "remedy"),
    [("1.2", "write one of '1.1', '1.0'"), (nn.Conv1d, "write one of 'torch.nn.Conv2d'"), ("block", "write one of '0', '0.conv', '1', ")],
    ids=["path", "class", "nothing like it"],
)
def test_what_matches_nothing_is_an_error_with_the_nearest_names(target: Any, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        called_whole(wish(target))
    assert caught.value.where.startswith("set_something ")
    assert caught.value.remedy.startswith(remedy)


def test_a_shared_module_by_its_second_path() -> None:
    model = blocks()
    model.add_module("again", model[0])
    module = trace(model, X, TraceOptions(whole=(wish("again"),)))
    assert [str(node.target) for node in module.graph.nodes if whole_reason_of(node) is not None] == ["0", "0"]


def test_an_op_that_is_named_is_quantized_all_the_same() -> None:
    """As in torch.ao, where modules of torch.nn are never traced into."""
    module = up_to("annotate", trace(blocks(), X, TraceOptions(whole=(wish(nn.Conv2d),))))
    assert [decision for name, decision in decisions(module).items() if "conv" in name] == ["int8", "int8", "int8 → float"]


def test_a_custom_module_is_no_op_even_where_its_type_is_one() -> None:
    module = up_to("annotate", trace(blocks(), X, TraceOptions(whole=(wish("0.conv", Why.CUSTOM),))))
    assert decisions(module)["_0_conv"] == "custom module: is kept whole by set_something"


# --- wrappers ------------------------------------------------------------------------------------------------------------------


def test_data_parallel_is_left_out_at_the_top_and_inside() -> None:
    model = Residual().eval()
    expected = print_graph(trace(model, X))
    model.stem = DataParallel(model.stem)
    wrapped = DataParallel(model)
    assert print_graph(trace(wrapped, X)) == expected
    assert isinstance(model.stem, DataParallel)  # the user's model is as it was
    prepared = fxq.prepare_fx(wrapped, fxq.get_default_qconfig_mapping().set_module_name("stem.conv", None), X)
    assert not any("module." in key for key in prepared.state_dict())


# --- results in other forms ----------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    logits: Tensor
    features: Tensor


@dataclasses.dataclass
class Found:
    logits: Tensor
    features: Tensor


class Answering(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return self.kind(torch.relu(y), y)


@pytest.mark.parametrize("kind", [Pair, Found])
def test_named_tuples_and_dataclasses_stay_what_they_are(kind: type) -> None:
    model = Answering(kind).eval()
    int8 = fxq.quantize(model, [X], progress=False)
    for module in (trace(model, X), int8, copy.deepcopy(int8), pickle.loads(pickle.dumps(int8))):
        result = module(X)
        assert type(result) is kind
        assert (result.logits - model(X).logits).abs().max() < 0.02
        assert torch.equal(result.logits, torch.relu(result.features))


# --- preserved attributes ------------------------------------------------------------------------------------------------------


def test_preserved_attributes_of_every_kind() -> None:
    model = net()
    module = trace(model, X, TraceOptions(preserved=("labels", "mean", "unused")))
    assert module.labels == ["cat", "dog"] and torch.equal(module.mean, model.mean)
    assert torch.equal(module.unused(X[0, 0, :, :2]), model.unused(X[0, 0, :, :2]))
    assert module.unused is not model.unused and module.labels is not model.labels
    assert not hasattr(trace(model, X), "labels")


def test_preserved_attributes_outlive_every_pass() -> None:
    module = up_to("cancel_qdq", trace(net(), X, TraceOptions(preserved=("labels", "mean", "unused"))))
    assert module.labels == ["cat", "dog"] and module.mean.shape == (3,) and module.unused.weight.shape == (2, 2)
    assert hasattr(pickle.loads(pickle.dumps(module)), "unused")


def test_an_attribute_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"set_preserved_attributes \"label\"[\s\S]*write one of 'labels'"):
        trace(net(), X, TraceOptions(preserved=("label",)))
