"""History: which passes a model went through, and its graph at the stages on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fxq.graph.stages import Stage


@dataclass(frozen=True)
class PassRun:
    """A pass that ran.

    Attributes:
        name: its verb.
        stage: of the graph afterwards.
        changes: how many it made.
    """

    name: str
    stage: Stage
    changes: int


@dataclass(frozen=True)
class Called:
    """A module that a graph calls: the qualified name of its class, and what it is called in graph text."""

    kind: str
    name: str


@dataclass(frozen=True)
class Snapshot:
    """A graph as it was, without the data of its tensors; `fxq.graph.snapshots.restore` makes a graph of it again.

    Attributes:
        stage: of the graph.
        nodes: NodeRecords, in order of execution.
        called: by path of the module.
        observed: name of an observer's node → Distribution of what it has seen.
    """

    stage: Stage
    nodes: tuple[Any, ...]
    called: Mapping[str, Called]
    observed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """What is known of a model's past. It grows by making a new one, so copies of a model share it."""

    runs: tuple[PassRun, ...] = ()
    snapshots: Mapping[Stage, Snapshot] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> History:
        return self

    def with_run(self, run: PassRun) -> History:
        """The same, and a pass after it."""
        return History((*self.runs, run), self.snapshots)

    def with_snapshot(self, snapshot: Snapshot) -> History:
        """The same, and this for its stage: a graph may be recorded again when more is known of it."""
        return History(self.runs, {**self.snapshots, snapshot.stage: snapshot})
