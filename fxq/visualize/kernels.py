"""The compiled kernels of a model: which run for a node, and their code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fxq.graph.islands import graphs_of
from fxq.graph.module import FxqModule
from fxq.graph.names import join_path
from fxq.lowering.executable import regions_of
from fxq.runtime.jit import assembly

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
    """Those of the program that was compiled last of each region; none before the model has been called."""
    programs = [(graph.path, region.programs[-1]) for graph in graphs_of(model) for region in regions_of(graph) if region.programs]
    kernels = dict.fromkeys(call.planned.kernel for _, program in programs for call in program.calls)
    number = {kernel: index for index, kernel in enumerate(kernels)}
    calls: dict[str, tuple[KernelCall, ...]] = {}
    for path, program in programs:
        for stage, call in ((stage, call) for stage, together in enumerate(program.stages) for call in together):
            step = join_path(path, call.step)
            calls[step] = (*calls.get(step, ()), KernelCall(program.name, stage, number[call.planned.kernel], call.units))
    return Kernels(calls, tuple(Code(str(kernel), _instructions(assembly(kernel))) for kernel in kernels))


def _instructions(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line and not _DIRECTIVES.match(line)).expandtabs(8)
