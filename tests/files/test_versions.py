"""Files of every version load for ever, and compute what they computed when they were written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import fxq
from fxq.files.container import VERSION
from fxq.files.integer_ops import INTEGER_OPS
from fxq.graph.module import FxqModule
from fxq.report import Kind
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.dynamic.recurrent import DynamicRNN, DynamicRNNCell
from fxq.runtime.integer.module import IntegerOp
from fxq.runtime.weight_only.embedding import WeightOnlyEmbedding, WeightOnlyEmbeddingBag
from fxq.runtime.weight_only.linear import WeightOnlyLinear
from tests.files.versions import DATA, PROFILES, make, results

FILES = sorted(DATA.glob("*.fxq"))


def test_every_version_has_its_files() -> None:
    expected = {f"version-{version}-{profile}.fxq" for version in range(1, VERSION + 1) for profile in PROFILES}
    assert {path.name for path in FILES} == expected


@pytest.mark.parametrize("runtime", ["integer", "auto"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_old_files_compute_the_same(path: Path, runtime: str) -> None:
    kept = load_file(path.with_suffix(".safetensors"))
    model = fxq.load(path, runtime=runtime)
    found = results(model, kept.pop("input.x"), kept.pop("input.y"))
    torch.testing.assert_close(found.pop("floats"), kept.pop("floats"), rtol=0, atol=1e-5)
    assert found.keys() == kept.keys()
    for name, value in kept.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_old_files_have_their_report(path: Path) -> None:
    model = fxq.load(path)
    report = fxq.report(model)
    assert report.totals.count(Kind.INT8) > 30 and report.totals.macs_share_int8 == 1.0
    assert report.row("lrn").reason is not None and "versions.py" in report.row("conv").source
    assert model.labels == ["cat", "dog"] and set(model.original_weights_lookup) >= {"conv", "linear", "head"}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_model_of_the_files_is_still_what_is_written(profile: str, tmp_path: Path) -> None:
    """Where it changes, a new op has come perhaps: then the model grows, and what is there stays."""
    model, inputs = make(profile)
    fxq.save(model, tmp_path / "model.fxq")
    assert fxq.report(fxq.load(tmp_path / "model.fxq")) == fxq.report(model)
    assert torch.equal(results(fxq.load(tmp_path / "model.fxq"), *inputs)["integers"], results(model, *inputs)["integers"])


_LATER = {DynamicLinear, DynamicRNN, DynamicRNNCell, WeightOnlyLinear, WeightOnlyEmbedding, WeightOnlyEmbeddingBag}


def test_the_files_have_every_integer_op() -> None:
    models = [module for path in FILES for module in fxq.load(path).modules()]
    graphs = [module for module in models if isinstance(module, FxqModule)]
    found = {type(module) for graph in graphs for module in graph.modules() if isinstance(module, IntegerOp)}
    assert found == set(INTEGER_OPS) - _LATER, "graphs do not have those yet"
