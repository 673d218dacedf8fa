"""The stages of a model's compilation, from what it remembers of them to the code that runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from fxq.errors import CalibrationError
from fxq.graph.annotation import quant_of
from fxq.graph.history import PassRun
from fxq.graph.islands import graphs_of
from fxq.graph.module import FxqModule
from fxq.graph.names import join_path
from fxq.graph.qtypes import QParams
from fxq.graph.snapshots import restore
from fxq.graph.stages import Stage
from fxq.lowering.regions import find_regions
from fxq.observers.distribution import Distribution
from fxq.passes.freeze_qparams import found_qparams
from fxq.passes.record import distributions_of
from fxq.runtime.jit import accepts
from fxq.visualize.cards import Card, Known, group_of, make_cards

COMPILED = "compiled"

# what has been done to reach a stage, for people
MEANINGS: Mapping[str, str] = {
    "traced": "the calls that the model makes",
    "fused": "batch norms folded, activations and sums attached",
    "annotated": "int8 or float, decided for every layer",
    "observed": "one observer for all values with one scale",
    "reference": "float ops between quantize and dequantize",
    "lowered": "integer ops in the place of layers",
    COMPILED: "regions of integer ops as machine code",
}


@dataclass(frozen=True)
class StageView:
    """A stage as it is shown.

    Attributes:
        name: "traced" and so on.
        cards: the nodes, in order of execution.
        runs: the passes that led here.
    """

    name: str
    cards: tuple[Card, ...]
    runs: tuple[PassRun, ...]


def stages_of(model: FxqModule, known: Known) -> tuple[StageView, ...]:
    """Every stage that the model remembers, the one that it is at, and, if regions are compiled, what runs."""
    views = [StageView(stage.name.lower(), _remembered(model, stage, known), _runs_to(model, stage)) for stage in _past(model)]
    cards = make_cards(model, known)
    views.append(StageView(model.stage.name.lower(), cards, _runs_to(model, model.stage)))
    compiled = _by_region(model, cards)
    if compiled != cards:
        views.append(StageView(COMPILED, compiled, ()))
    return tuple(views)


def _by_region(model: FxqModule, cards: tuple[Card, ...]) -> tuple[Card, ...]:
    """The same cards, those of a region inside of it. Regions are compiled when the model is called; this is what they will be."""
    region_of: dict[str, str] = {}
    for graph in graphs_of(model):
        for region in find_regions(graph.graph, accepts).regions if graph.executor is not None else ():
            name = join_path(graph.path, region.region.name)
            region_of.update((join_path(graph.path, node.name), name) for node in region.nodes)
    return tuple(replace(card, scope=join_path(region_of.get(card.id, ""), card.scope)) for card in cards)


def known_values(model: FxqModule) -> Known:
    """What the observers of a prepared model have found, or those that a converted one remembers."""
    qparams: dict[str, QParams] = {}
    seen: dict[str, Distribution] = {}
    for graph in graphs_of(model):
        observed = graph.history.snapshots.get(Stage.OBSERVED)
        at_stage = graph if graph.stage is Stage.OBSERVED or observed is None else restore(observed, graph.path)
        found = distributions_of(graph) if at_stage is graph or observed is None else observed.observed
        groups = {node.name: group_of(node, at_stage) for node in at_stage.graph.nodes}
        seen.update((groups[name], distribution) for name, distribution in found.items())
        qparams.update(_qparams(graph))
    return Known(qparams, seen)


def _qparams(graph: FxqModule) -> Iterator[tuple[str, QParams]]:
    """(group, qparams), as far as calibration has found them."""
    if graph.stage is Stage.OBSERVED:
        try:
            yield from ((f"{graph.path}#{group}", qparams) for group, qparams in found_qparams(graph).items())
        except CalibrationError:
            return
    for node in graph.graph.nodes:
        quant = quant_of(node)
        if quant is not None and quant.qparams is not None:
            yield group_of(node, graph), quant.qparams


def _past(model: FxqModule) -> list[Stage]:
    return sorted(stage for stage in model.history.snapshots if stage < model.stage)


def _remembered(model: FxqModule, stage: Stage, known: Known) -> tuple[Card, ...]:
    """The cards of a stage before, those of the graphs in islands too."""
    snapshots = [(graph.path, graph.history.snapshots.get(stage)) for graph in graphs_of(model)]
    restored = (restore(snapshot, path) for path, snapshot in snapshots if snapshot is not None)
    return tuple(card for graph in restored for card in make_cards(graph, known))


def _runs_to(model: FxqModule, stage: Stage) -> tuple[PassRun, ...]:
    """The passes between a stage and the one before it. What is remembered as TRACED is the graph before all passes."""
    return tuple(run for run in model.history.runs if max(run.stage, Stage.FUSED) is stage)
