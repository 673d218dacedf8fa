"""Passes in sequence: stages, verification, dumps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fxq.errors import StageError
from fxq.graph.annotation import set_type
from fxq.graph.module import FxqModule
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.graph.verify import VerificationError
from fxq.passes import CONVERT, FUSE, PREPARE, Context, Pass, pipeline, require_stage, run_pipeline
from fxq.passes.trace import trace
from tests.passes.cases import EVERYTHING, X86, ramp, residual

X = ramp(1, 3, 8, 8)
CONTEXT = Context(X86, EVERYTHING)


def nothing(module: FxqModule, context: Context) -> int:
    return 0


def forget_types(module: FxqModule, context: Context) -> int:
    for node in module.graph.nodes:
        set_type(node, None)
    return 1


def test_the_pipelines() -> None:
    assert [step.name for step in PREPARE] == [
        "canonicalize", "resolve_qconfigs", "expand_products", "fold_constants", "fuse", "decompose", "annotate", "share_qparams",
        "insert_observers", "insert_moments",
    ]  # fmt: skip
    assert [step for step in PREPARE if step in FUSE] == list(FUSE)
    assert [step.name for step in CONVERT] == [
        "freeze_qparams", "swap_modules", "shrink_weights", "expose_integers", "quantize_constants", "cancel_qdq",
    ]  # fmt: skip


def test_passes_that_do_not_fit_are_no_pipeline() -> None:
    with pytest.raises(AssertionError, match="first gives FUSED, second needs TRACED"):
        pipeline(Pass("first", Stage.TRACED, Stage.FUSED, nothing), Pass("second", Stage.TRACED, Stage.FUSED, nothing))


def test_the_stage_follows_the_passes() -> None:
    module = trace(residual(), X)
    stages = []
    for step in PREPARE:
        run_pipeline(module, (step,), CONTEXT)
        stages.append(module.stage)
    assert stages == [step.gives for step in PREPARE]


def test_passes_that_annotate_change_nothing_else() -> None:
    module, annotating = trace(residual(), X), []
    for step in PREPARE:
        before = print_graph(module)
        run_pipeline(module, (step,), CONTEXT)
        if step.annotates:
            annotating.append(step.name)
            assert print_graph(module) == before
    assert annotating == ["resolve_qconfigs", "annotate", "share_qparams"]


def test_the_module_is_changed_in_place_and_runs() -> None:
    module = trace(residual(), X)
    assert run_pipeline(module, PREPARE, CONTEXT) is module
    assert torch.allclose(module(X), residual()(X), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("module", "found"),
    [(trace(residual(), X), "stage TRACED"), (nn.ReLU(), "a ReLU")],
    ids=["another stage", "no FxqModule"],
)
def test_the_wrong_stage_says_what_to_pass(module: FxqModule, found: str) -> None:
    with pytest.raises(StageError) as caught:
        require_stage(module, Stage.OBSERVED, "convert_fx")
    error = caught.value
    assert (error.where, error.expected, error.found) == ("convert_fx", "a model at stage OBSERVED", found)
    assert error.remedy == "pass the model that prepare_fx returned; convert it once"


def test_a_pass_that_breaks_a_promise_is_named() -> None:
    broken = Pass("forget_types", Stage.FUSED, Stage.FUSED, forget_types)
    with pytest.raises(VerificationError, match="forget_types breaks a promise of stage FUSED: stem_conv_weight has no shape and dtype"):
        run_pipeline(trace(residual(), X), (*FUSE, broken), CONTEXT)


@pytest.mark.parametrize(("wanted", "passes"), [("1", [step.name for step in FUSE]), ("fuse", ["fuse"]), ("", [])])
def test_dumps(wanted: str, passes: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FXQ_DUMP", wanted)
    module = run_pipeline(trace(residual(), X), FUSE, CONTEXT)
    written = capsys.readouterr().err
    assert [line.split()[1].rstrip(":") for line in written.splitlines() if line.startswith("---")] == passes
    if passes:
        assert written.endswith(f"--- fuse: 6 changes, stage FUSED\n{print_graph(module)}\n")
