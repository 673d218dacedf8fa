"""What cannot be stored: an error that says which module, where it is written and what to do, and no file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.graph.module import FxqModule

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def not_traced(x: Tensor) -> Tensor:
    """A function of the user's that stays one call: it decides by a value."""
    return x * 2 if x.sum() < 1e6 else x


torch.fx.wrap("not_traced")


class Branching(nn.Module):
    """Its forward depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y if y.sum() > 0 else -y


class Custom(nn.Module):
    """Kept whole by a custom config."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class Calling(nn.Module):
    """Calls the function."""

    def forward(self, x: Tensor) -> Tensor:
        return not_traced(x)


class Around(nn.Module):
    """A convolution, and something else."""

    def __init__(self, other: Callable[..., Any]) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 3, 1), other

    def forward(self, x: Tensor) -> Any:
        return self.conv(self.other(self.conv(x)))


def quantized(model: nn.Module, config: fxq.PrepareCustomConfig | None = None) -> FxqModule:
    prepared = fxq.prepare_fx(model.eval(), fxq.get_default_qconfig_mapping("x86"), (X,), config)
    fxq.calibrate(prepared, [X], progress=False)
    return fxq.convert_fx(prepared)


def refused(model: Any, folder: Path) -> fxq.FxqError:
    with pytest.raises(fxq.FxqError) as error:
        fxq.save(model, folder / "model.fxq")
    assert os.listdir(folder) == []
    return error.value


def _line_of(function: Callable[..., Any]) -> str:
    return f"{Path(__file__).name}:{function.__code__.co_firstlineno}"


def test_island(tmp_path: Path) -> None:
    error = refused(quantized(Around(Branching())), tmp_path)
    assert error.where.startswith("module other") and _line_of(Around.forward).partition(":")[0] in error.where
    assert "tests.files.test_refusals.Branching" in error.found and _line_of(Branching.forward) in error.found
    assert "`return y if y.sum() > 0 else -y`" in error.found
    assert "store its graphs (other.conv) one by one: fxq.save(model.get_submodule(path), file)" in error.remedy


def test_graphs_of_an_island_are_stored_one_by_one(tmp_path: Path) -> None:
    part = quantized(Around(Branching())).get_submodule("other.conv")
    fxq.save(part, tmp_path / "part.fxq")
    assert torch.equal(fxq.load(tmp_path / "part.fxq")(X), part(X))


def test_a_model_that_stays_python(tmp_path: Path) -> None:
    error = refused(quantized(Branching()), tmp_path)
    assert _line_of(Branching.forward) in error.found and "store its graphs (model.conv)" in error.remedy


def test_custom_module(tmp_path: Path) -> None:
    config = fxq.PrepareCustomConfig().set_non_traceable_module_classes([Custom])
    error = refused(quantized(Around(Custom()), config), tmp_path)
    assert "module other" in error.where and "test_refusals.Custom" in error.found and _line_of(Custom.forward) in error.found


def test_function(tmp_path: Path) -> None:
    model = quantized(Around(Calling()))
    error = refused(model, tmp_path)
    assert f"test_refusals.not_traced ({__file__}:{not_traced.__code__.co_firstlineno})" in error.found
    assert "known=[not_traced]" in error.remedy
    fxq.save(model, tmp_path / "model.fxq", known=[not_traced])
    assert torch.equal(fxq.load(tmp_path / "model.fxq", known=[not_traced])(X), model(X))
    with pytest.raises(fxq.FileError, match=r"not_traced among `known`"):
        fxq.load(tmp_path / "model.fxq")


def test_functions_of_torch_that_do_more_than_compute(tmp_path: Path) -> None:
    model = quantized(Around(torch.nn.functional.relu))
    (node,) = (node for node in model.graph.nodes if node.op == "output")
    with model.graph.inserting_before(node):
        model.graph.call_function(torch.manual_seed, (0,))
    assert "torch.manual_seed" in refused(model, tmp_path).found


def test_method_and_attribute(tmp_path: Path) -> None:
    for method, attribute in (("numpy", None), (None, "grad")):
        model = quantized(Around(torch.nn.functional.relu))
        output = model.graph.output_node()
        with model.graph.inserting_before(output):
            value = output.args[0]
            model.graph.call_method(method, (value,)) if method else model.graph.call_function(getattr, (value, attribute))
        assert (method or attribute or "") in refused(model, tmp_path).found


def test_hooks(tmp_path: Path) -> None:
    model = quantized(Around(nn.ReLU()))
    removable = model.get_submodule("conv").register_forward_hook(lambda *_: None)
    assert "hooks" in refused(model, tmp_path).found
    removable.remove()
    fxq.save(model, tmp_path / "model.fxq")


def test_arguments_and_tensors_of_strange_kinds(tmp_path: Path) -> None:
    model = quantized(Around(nn.LocalResponseNorm(2)))
    call = next(node for node in model.graph.nodes if node.op == "call_module" and node.target == "other")
    call.kwargs = {"size": {1, 2}}
    assert "builtins.set among its arguments" in refused(model, tmp_path).found
    sparse = quantized(Around(nn.ReLU()))
    sparse.preserved = ("sparse",)
    sparse.register_buffer("sparse", torch.eye(3).to_sparse())
    assert "torch.sparse_coo" in refused(sparse, tmp_path).found


def _inside(levels: int, model: nn.Module) -> nn.Module:
    return model if levels == 0 else nn.Sequential(_inside(levels - 1, model))


def test_levels(tmp_path: Path) -> None:
    model = quantized(_inside(64, nn.Conv2d(3, 3, 1)))
    fxq.save(model, tmp_path / "model.fxq")
    assert torch.equal(fxq.load(tmp_path / "model.fxq")(X), model(X))
    (tmp_path / "model.fxq").unlink()
    assert "64 names" in refused(quantized(_inside(65, nn.Conv2d(3, 3, 1))), tmp_path).expected
    many = quantized(nn.Sequential(*(_inside(62, nn.Conv2d(3, 3, 1)) for _ in range(20))))
    assert "modules that only hold others" in refused(many, tmp_path).found


def test_preserved_objects(tmp_path: Path) -> None:
    model = quantized(Around(nn.ReLU()))
    model.preserved, model.tokenizer = ("tokenizer",), object()
    error = refused(model, tmp_path)
    assert "tokenizer" in error.where and "leave tokenizer out" in error.remedy


@pytest.mark.parametrize("what", ["prepared", "float", "nothing"])
def test_what_is_not_converted(what: str, tmp_path: Path) -> None:
    prepared = fxq.prepare_fx(Around(nn.ReLU()).eval(), fxq.get_default_qconfig_mapping("x86"), (X,))
    model = {"prepared": prepared, "float": nn.Linear(1, 1), "nothing": None}[what]
    error = refused(model, tmp_path)
    assert isinstance(error, fxq.StageError) and "convert" in error.expected


def test_a_model_with_replaced_layers(tmp_path: Path) -> None:
    """What the message says works."""
    model, x = fxq.quantize_dynamic(nn.Sequential(nn.LSTM(3, 4))), torch.randn(2, 3)
    error = refused(model, tmp_path)
    assert isinstance(error, fxq.StageError) and "a Sequential with layers that fxq.quantize_dynamic has replaced" in error.found
    assert "fxq.prepare_fx(model, fxq.QConfigMapping(), example_inputs)" in error.remedy and "state_dict" in error.remedy
    graph = fxq.convert_fx(fxq.prepare_fx(model, fxq.QConfigMapping(), (x,)))
    fxq.save(graph, tmp_path / "model.fxq")
    assert torch.equal(fxq.load(tmp_path / "model.fxq")(x)[0], model(x)[0])
