"""The compiled kernels of a model: which run for a node, and their code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fxq.graph.islands import graphs_of
from fxq.graph.module import FxqModule
from fxq.graph.names import join_path
from fxq.lowering.executable import regions_of
from fxq.report.kinds import called_module
from fxq.runtime.dynamic.op import DynamicOp
from fxq.runtime.jit import assembly
from fxq.runtime.jit.program import Call, Program

# what tells the assembler about sections, symbols and unwinding, and not the processor what to do
_DIRECTIVES = re.compile(r"\s*(\.(file|section|p2align|text|globl|type|size|cfi_\w+)\b|\.Lfunc_end|# -- |# %bb)")


@dataclass(frozen=True)
class KernelCall:
    """What the compiled program runs for a node.

    Attributes:
        region: which program.
        stage: of the program; the calls of one stage may run at the same time.
        code: the kernel's number among `Kernels.codes`.
        units: into how many parts it can be split among threads.
    """

    region: str
    stage: int
    code: int
    units: int


@dataclass(frozen=True)
class Code:
    """A kernel: its family with all parameters, and its instructions."""

    kernel: str
    assembly: str


@dataclass(frozen=True)
class Kernels:
    """Id of a card → the kernels that run for it, and each different one once."""

    calls: Mapping[str, tuple[KernelCall, ...]]
    codes: tuple[Code, ...]


def kernels_of(model: FxqModule) -> Kernels:
    """Those of the programs that were compiled last; none before the model has been called."""
    runs = list(_runs(model))
    kernels = dict.fromkeys(run.call.planned.kernel for run in runs)
    number = {kernel: index for index, kernel in enumerate(kernels)}
    calls: dict[str, tuple[KernelCall, ...]] = {}
    for run in runs:
        made = KernelCall(run.program, run.stage, number[run.call.planned.kernel], run.call.units)
        calls[run.id] = (*calls.get(run.id, ()), made)
    return Kernels(calls, tuple(Code(str(kernel), _instructions(assembly(kernel))) for kernel in kernels))


@dataclass(frozen=True)
class _Run:
    """A call of a program, and the id of the card that it is for."""

    id: str
    program: str
    stage: int
    call: Call


def _runs(model: FxqModule) -> Iterator[_Run]:
    """Of regions, whose calls know their nodes, and of dynamic ops, which have programs of their own."""
    for graph in graphs_of(model):
        for program in (program for region in regions_of(graph) for program in region.latest):
            yield from (_Run(join_path(graph.path, call.step), program.name, stage, call) for stage, call in _calls(program))
        for node in graph.graph.nodes:
            module = called_module(node)
            for program in module.programs if isinstance(module, DynamicOp) else ():
                yield from (_Run(join_path(graph.path, node.name), program.name, stage, call) for stage, call in _calls(program))


def _calls(program: Program) -> Iterator[tuple[int, Call]]:
    return ((stage, call) for stage, together in enumerate(program.stages) for call in together)


def _instructions(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line and not _DIRECTIVES.match(line)).expandtabs(8)
