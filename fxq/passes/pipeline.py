"""Pass and pipeline: what a transformation needs, what it gives, and the check that they fit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from fxq.errors import StageError
from fxq.graph.history import PassRun
from fxq.graph.islands import graphs_of
from fxq.graph.module import FxqModule
from fxq.graph.opdef import OpDef
from fxq.graph.profile import BackendProfile
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.graph.verify import verify
from fxq.passes.record import record
from fxq.patterns.rules import Rule
from fxq.qconfig_mapping import QConfigMapping


@dataclass(frozen=True)
class Context:
    """What the passes are told besides the graph.

    Attributes:
        profile: the backend that is compiled for.
        mapping: the user's choice per node; None where only fusion is asked for.
        rules: fusions of the user's, tried after ours.
        ops: canonical ops of the user's, besides ours.
    """

    profile: BackendProfile
    mapping: QConfigMapping | None = None
    rules: tuple[Rule, ...] = ()
    ops: tuple[OpDef, ...] = ()


@dataclass(frozen=True)
class Pass:
    """A step of a pipeline.

    Attributes:
        name: its verb.
        needs, gives: the stage of the graph before and after.
        run: changes the graph and returns the number of changes.
        annotates: it notes on nodes how they are quantized, and changes nothing else.
    """

    name: str
    needs: Stage
    gives: Stage
    run: Callable[[FxqModule, Context], int]
    annotates: bool = False


Pipeline = tuple[Pass, ...]


def pipeline(*passes: Pass) -> Pipeline:
    """A sequence of passes in which each starts at the stage where the one before it ended."""
    for before, after in pairwise(passes):
        assert before.gives is after.needs, f"{before.name} gives {before.gives.name}, {after.name} needs {after.needs.name}"
    return passes


def run_pipeline(module: FxqModule, steps: Pipeline, context: Context) -> FxqModule:
    """Runs the passes on the module and on the graphs in its islands, in place, and verifies each graph after each pass.

    Raises:
        StageError: the module is not at the stage where the pipeline starts.
    """
    require_stage(module, steps[0].needs, steps[0].name)
    for graph in graphs_of(module):
        _run_passes(graph, steps, context)
    return module


def _run_passes(module: FxqModule, steps: Pipeline, context: Context) -> None:
    started = module.stage
    record(module)
    for step, following in zip(steps, (*steps[1:], None), strict=True):
        changes = step.run(module, context)
        module.stage = step.gives
        if changes or step.gives is not step.needs:
            verify(module, step.gives, step.name, annotated=step.annotates)
        module.history = module.history.with_run(PassRun(step.name, step.gives, changes))
        if following is not None and following.gives is not step.gives and step.gives is not started:
            record(module)
        _dump(module, step, changes)
    module.recompile()


def require_stage(module: FxqModule, stage: Stage, wanted_by: str) -> None:
    """Raises StageError unless the module is at the stage."""
    found = module.stage if isinstance(module, FxqModule) else type(module).__name__
    if found is not stage:
        raise StageError(
            wanted_by,
            expected=f"a model at stage {stage.name}",
            found=f"stage {found.name}" if isinstance(found, Stage) else f"a {found}",
            remedy=_REMEDIES[stage],
        )


_REMEDIES = {
    Stage.TRACED: "pass the float model",
    Stage.FUSED: "pass the float model",
    Stage.ANNOTATED: "pass the float model",
    Stage.OBSERVED: "pass the model that prepare_fx returned; convert it once",
    Stage.REFERENCE: "pass the model that convert_to_reference_fx returned",
    Stage.LOWERED: "pass the model that convert_fx returned",
}


def _dump(module: FxqModule, step: Pass, changes: int) -> None:
    """FXQ_DUMP=1 prints the graph after every pass; FXQ_DUMP=fuse after the pass of that name. See docs/debugging.md."""
    wanted = os.environ.get("FXQ_DUMP", "")
    if wanted in ("1", step.name):
        sys.stderr.write(f"--- {step.name}: {changes} changes, stage {step.gives.name}\n{print_graph(module)}\n")
