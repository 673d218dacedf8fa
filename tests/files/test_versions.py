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
from fxq.runtime.integer.module import IntegerOp
from tests.files.versions import DATA, KEPT, PROFILES, Kept

FILES = sorted(DATA.glob("*.fxq"))


def test_every_version_has_its_files() -> None:
    expected = {f"version-{version}-{name}.fxq" for version in range(1, VERSION + 1) for name in KEPT}
    assert {path.name for path in FILES} == expected


def kept_in(path: Path) -> Kept:
    return KEPT[path.stem.rpartition("-")[2]]


@pytest.mark.parametrize("runtime", ["integer", "auto"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_old_files_compute_the_same(path: Path, runtime: str) -> None:
    kept = load_file(path.with_suffix(".safetensors"))
    inputs = [kept.pop(name) for name in ("input.x", "input.y") if name in kept]
    found = kept_in(path).results(fxq.load(path, runtime=runtime), *inputs)
    torch.testing.assert_close(found.pop("floats"), kept.pop("floats"), rtol=0, atol=1e-5)
    assert found.keys() == kept.keys()
    for name, value in kept.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("path", [path for path in FILES if path.stem.endswith(PROFILES)], ids=lambda path: path.stem)
def test_old_files_have_their_report(path: Path) -> None:
    model = fxq.load(path)
    report = fxq.report(model)
    assert report.totals.count(Kind.INT8) > 30 and report.totals.macs_share_int8 == 1.0
    assert report.row("lrn").reason is not None and "versions.py" in report.row("conv").source
    assert model.labels == ["cat", "dog"] and set(model.original_weights_lookup) >= {"conv", "linear", "head"}


@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
def test_the_model_of_the_files_is_still_what_is_written(kept: Kept, tmp_path: Path) -> None:
    """Where it changes, a new op has come perhaps: then the model grows, and what is there stays."""
    model, inputs = kept.make()
    fxq.save(model, tmp_path / "model.fxq")
    loaded = fxq.load(tmp_path / "model.fxq")
    assert fxq.report(loaded) == fxq.report(model)
    found, expected = (kept.results(each, *inputs) for each in (loaded, model))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_the_files_have_every_integer_op() -> None:
    models = [module for path in FILES for module in fxq.load(path).modules()]
    graphs = [module for module in models if isinstance(module, FxqModule)]
    found = {type(module) for graph in graphs for module in graph.modules() if isinstance(module, IntegerOp)}
    assert found == set(INTEGER_OPS)
