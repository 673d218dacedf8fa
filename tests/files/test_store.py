"""save and load: what comes back is the model, bit by bit."""

from __future__ import annotations

import collections
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from fxq.files.integer_ops import INTEGER_OPS
from fxq.graph.module import FxqModule
from fxq.graph.stages import Stage
from fxq.runtime.integer.module import IntegerOp
from tests.files.same import assert_same, through_file
from tests.lowering.compiled import compile_text
from tests.lowering.examples import EXAMPLES
from tests.lowering.test_lowerings import ARITHMETICS
from tests.passes.own_ops import ROT90, SWISHIER, Swishier

CASES = [pytest.param(text, *ARITHMETICS[name], id=f"{op}-{number}-{name}")
         for op, texts in EXAMPLES.items() for number, text in enumerate(texts) for name in ("x86", "qnnpack, int8")]  # fmt: skip
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("text", "profile", "qconfig"), CASES)
def test_every_op(text: str, profile: str, qconfig: Any, tmp_path: Path) -> None:
    compiled = compile_text(text, profile, qconfig)
    assert_same(through_file(compiled.lowered, tmp_path), compiled.lowered, *compiled.inputs)


def test_every_integer_op_has_a_form() -> None:
    """A new one belongs into INTEGER_OPS, with its checks, and into the examples above."""
    found, waiting = set[type[IntegerOp]](), [IntegerOp]
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        waiting += subclasses
        found.update(kind for kind in subclasses if kind.__module__.startswith("fxq.") and "forward" in _methods(kind))
    abstract = {kind for kind in found if kind.__subclasses__() and kind.__name__.startswith(("_", "OneTensorOp", "RowOp", "Recurrent"))}
    assert {kind.__name__ for kind in found - abstract} <= {kind.__name__ for kind in INTEGER_OPS}


def _methods(kind: type) -> set[str]:
    return {name for base in kind.__mro__ if base is not nn.Module for name in vars(base)}


class Block(nn.Module):
    """Something of every kind: convolutions, a residual, a constant, float calls between int8 regions, several results."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.twice = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 5)
        self.tail = nn.Linear(5, 5)
        self.register_buffer("offset", torch.arange(5.0))
        self.gain = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor, scale: float = 2.0) -> dict[str, Any]:
        y = self.stem(x)
        y = F.relu(self.twice(self.twice(y)) + y)
        pooled = F.adaptive_avg_pool2d(y, 1)[..., 0, 0:1].reshape(x.size(0), -1)
        logits = torch.cumsum(self.head(pooled) + self.offset, 1) * self.gain
        return {"logits": self.tail(logits), "parts": [torch.sort(pooled, dim=1)[0] * scale, (x.shape[-1],)], "dtype": x.dtype}


def quantized(model: nn.Module, *inputs: Any, **options: Any) -> FxqModule:
    return fxq.quantize(model, [inputs], progress=False, **options)


@pytest.mark.parametrize("profile", ["x86", "qnnpack"])
def test_a_model_of_many_kinds(profile: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = quantized(Block(), X, profile=profile)
    assert_same(through_file(model, tmp_path), model, X)


@pytest.mark.parametrize("runtime", ["integer", "auto"])
def test_runtime_is_chosen_when_loading(runtime: str, tmp_path: Path) -> None:
    model = quantized(Block(), X)
    loaded = through_file(model, tmp_path, runtime=runtime)
    assert (loaded.executor is None) == (runtime == "integer")
    assert torch.equal(loaded(X)["logits"], model(X)["logits"])


def test_reference_and_fused_models_too(tmp_path: Path) -> None:
    prepared = fxq.prepare_fx(Block().eval(), fxq.get_default_qconfig_mapping("x86"), (X,))
    fxq.calibrate(prepared, [X], progress=False)
    reference = fxq.convert_to_reference_fx(prepared)
    assert_same(through_file(reference, tmp_path), reference, X)
    fused = fxq.fuse_fx(Block().eval(), (X,))
    assert through_file(fused, tmp_path).stage is Stage.FUSED
    assert_same(through_file(fused, tmp_path), fused, X)


def test_what_is_loaded_can_be_saved_again(tmp_path: Path) -> None:
    model = quantized(Block(), X)
    once = through_file(model, tmp_path)
    first = (tmp_path / "model.fxq").read_bytes()
    assert_same(through_file(once, tmp_path), model, X)
    assert (tmp_path / "model.fxq").read_bytes() == first


def test_original_weights_are_kept(tmp_path: Path) -> None:
    prepared = fxq.prepare_fx(Block().eval(), fxq.get_default_qconfig_mapping("x86"), (X,))
    fxq.calibrate(prepared, [X], progress=False)
    model = fxq.convert_fx(prepared, keep_original_weights=True)
    loaded = through_file(model, tmp_path)
    assert loaded.original_weights_lookup.keys() == model.original_weights_lookup.keys() != set()
    for path, kept in model.original_weights_lookup.items():
        found = loaded.original_weights_lookup[path]
        assert torch.equal(found.weight, kept.weight)
        assert (found.bias is None) == (kept.bias is None)


def test_quantized_inputs_and_results(tmp_path: Path) -> None:
    custom = fxq.PrepareCustomConfig().set_input_quantized_indexes([0]).set_output_quantized_indexes([0])
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    prepared = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), (X,), custom)
    fxq.calibrate(prepared, [X], progress=False)
    converted = fxq.convert_fx(prepared)
    loaded = through_file(converted, tmp_path)
    x = fxq.QTensor.from_float(X, converted.get_submodule("input_entry").qparams)
    assert torch.equal(loaded(x).int_repr(), converted(x).int_repr())
    assert fxq.report(loaded) == fxq.report(converted)


def test_weights_that_training_has_chosen(tmp_path: Path) -> None:
    prepared = fxq.prepare_qat_fx(Block().train(), fxq.get_default_qat_qconfig_mapping("x86"), (X,))
    prepared(X)
    model = fxq.convert_fx(prepared.eval())
    assert_same(through_file(model, tmp_path), model, X)


def test_standalone_modules_are_graphs_of_their_own(tmp_path: Path) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(self.inner(x))
            return y

    custom = fxq.PrepareCustomConfig().set_standalone_module_name("inner", None, (X,), None, None)
    prepared = fxq.prepare_fx(Outer().eval(), fxq.get_default_qconfig_mapping("x86"), (X,), custom)
    fxq.calibrate(prepared, [X], progress=False)
    model = fxq.convert_fx(prepared)
    loaded = through_file(model, tmp_path)
    assert isinstance(loaded.get_submodule("inner"), FxqModule)
    assert_same(loaded, model, X)


def test_preserved_attributes(tmp_path: Path) -> None:
    class Labelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.labels, self.unused = ["cat", "dog"], nn.Dropout(0.25)
            self.register_buffer("mean", torch.tensor([0.5]))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x)
            return y

    names = ["labels", "unused", "mean"]
    custom = fxq.PrepareCustomConfig().set_preserved_attributes(names)
    prepared = fxq.prepare_fx(Labelled().eval(), fxq.get_default_qconfig_mapping("x86"), (X,), custom)
    fxq.calibrate(prepared, [X], progress=False)
    model = fxq.convert_fx(prepared, fxq.ConvertCustomConfig().set_preserved_attributes(names))
    loaded = through_file(model, tmp_path)
    assert loaded.labels == ["cat", "dog"] and loaded.get_submodule("unused").p == 0.25 and torch.equal(loaded.mean, model.mean)
    assert_same(loaded, model, X)


# --- structures of inputs and results ----------------------------------------------------------------------------------------


@dataclass
class Found(collections.UserDict):  # type: ignore[type-arg]
    """A result class of the user's."""

    boxes: Any
    scores: Any


class Pair(NamedTuple):
    """Another one."""

    first: Tensor
    second: Tensor


class Structured(nn.Module):
    """Takes a dict of lists, returns what it is told to."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.conv, self.result = nn.Conv2d(3, 4, 3), result

    def forward(self, given: dict[str, list[Tensor]], *, flag: bool = False) -> Any:
        y = self.conv(given["images"][0]) + self.conv(given["images"][1])
        return self.result(y, y * 2)


RESULTS = {
    "tuple": lambda a, b: (a, (b, None)),
    "list": lambda a, b: [a, [b]],
    "dict": lambda a, b: {"a": a, "b": {"c": b, 3: 1.5}},
    "OrderedDict": lambda a, b: OrderedDict(a=a, b=b),
}


@pytest.mark.parametrize("name", RESULTS)
def test_structures(name: str, tmp_path: Path) -> None:
    given = {"images": [X, X * 2]}
    model = quantized(Structured(RESULTS[name]), given)
    assert_same(through_file(model, tmp_path), model, given)


def test_classes_of_the_user_are_given_to_both(tmp_path: Path) -> None:
    given = {"images": [X, X * 2]}
    model = quantized(Structured(Pair), given)
    loaded = through_file(model, tmp_path, known=[Pair])
    assert isinstance(loaded(given), Pair)
    assert_same(loaded, model, given)
    with pytest.raises(fxq.FileError, match=r"tests\.files\.test_store\.Pair among `known`"):
        fxq.load(tmp_path / "model.fxq")


def test_ops_of_the_user_are_given_when_loading(tmp_path: Path) -> None:
    class Uses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.swish = nn.Conv2d(3, 3, 1), Swishier(2.0)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(torch.rot90(self.swish(self.conv(x)), 1, (2, 3)))
            return y

    model = quantized(Uses(), X, ops=[SWISHIER, ROT90])
    loaded = through_file(model, tmp_path, known=[SWISHIER, ROT90])
    assert_same(loaded, model, X)
    with pytest.raises(fxq.FileError, match="rot90 among `known`"):
        fxq.load(tmp_path / "model.fxq")
