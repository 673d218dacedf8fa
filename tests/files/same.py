"""What must be the same of a model and of the one that a file gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

import fxq
from fxq.graph.annotation import annotations_of
from fxq.graph.module import FxqModule
from fxq.graph.stages import Stage


def through_file(model: FxqModule, folder: Path, **options: Any) -> FxqModule:
    """The model after a save and a load."""
    path = folder / "model.fxq"
    fxq.save(model, path, known=options.get("known", ()))
    return fxq.load(path, **options)


def assert_same(loaded: FxqModule, model: FxqModule, *inputs: Any) -> None:
    """Graph, annotations, report, constants and results, in both runtimes, are the same."""
    assert fxq.print_graph(loaded) == fxq.print_graph(model)
    assert fxq.report(loaded) == fxq.report(model)
    assert fxq.to_dot(loaded) == fxq.to_dot(model)
    assert (loaded.stage, loaded.profile, loaded.interface, loaded.preserved) == (
        model.stage, model.profile, model.interface, model.preserved,
    )  # fmt: skip
    assert [_known_of(node) for node in loaded.graph.nodes] == [_known_of(node) for node in model.graph.nodes]
    _assert_same_tensors(loaded, model)
    with torch.no_grad():
        expected = model.run_lowered(*inputs)
        _assert_same_bits(loaded(*inputs), expected)
        _assert_same_bits(loaded.run_lowered(*inputs), expected)


def _assert_same_tensors(loaded: FxqModule, model: FxqModule) -> None:
    """Before lowering a model may have tensors that nothing reads; these are not stored."""
    found, expected = loaded.state_dict(), model.state_dict()
    assert found.keys() == expected.keys() if model.stage is Stage.LOWERED else found.keys() <= expected.keys()
    _assert_same_bits(dict(found), {name: expected[name] for name in found})
    gradients = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert all(gradients[name] == parameter.requires_grad for name, parameter in loaded.named_parameters())


def _known_of(node: torch.fx.Node) -> dict[str, Any]:
    """Annotations without those that are of no use after conversion: the qconfig, and which values were no views."""
    found = {key: value for key, value in annotations_of(node).items() if key not in ("fxq_resolution", "fxq_new")}
    return {key: value for key, value in found.items() if value is not None and value != ()}


def _assert_same_bits(found: Any, expected: Any) -> None:
    (values, structure), (wanted, same_structure) = tree_flatten(found), tree_flatten(expected)
    assert structure == same_structure
    for value, other in zip(values, wanted, strict=True):
        if isinstance(value, torch.Tensor):
            assert value.dtype == other.dtype and _steps(value) == _steps(other)
            torch.testing.assert_close(value, other, rtol=0, atol=0, equal_nan=True)
        else:
            assert value == other


def _steps(value: torch.Tensor) -> list[int]:
    """Strides, without those of dimensions of one element, along which there is no step."""
    return [stride for stride, size in zip(value.stride(), value.shape, strict=True) if size != 1]
