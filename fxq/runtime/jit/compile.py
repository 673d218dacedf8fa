"""Kernels → machine code, in this process. Equal kernels compile once."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakValueDictionary

from llvmlite import binding, ir

from fxq.runtime.jit.ir import Emitter
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, emit_kernel

# modules whose code stays for programs to come after those that it was compiled for are gone: each takes one to three megabytes
_KEPT_MODULES = 32


@dataclass(frozen=True, eq=False)
class Code:
    """One function, `void (ptr words, i64 begin, i64 end)`. It may be called as long as this object is held.

    Attributes:
        engine: what owns the machine code.
    """

    address: int
    engine: Any


_COMPILED: WeakValueDictionary[Kernel, Code] = WeakValueDictionary()
_RECENT: deque[list[Code]] = deque(maxlen=_KEPT_MODULES)
_LOCK = threading.Lock()


def compile_kernels(kernels: Iterable[Kernel]) -> dict[Kernel, Code]:
    """The code of each kernel. Those not yet compiled become one LLVM module.

    With FXQ_DEBUG=asm, the IR and the assembly of what is compiled are printed to standard error.
    """
    wanted = tuple(dict.fromkeys(kernels))
    with _LOCK:
        found = {kernel: code for kernel in wanted if (code := _COMPILED.get(kernel)) is not None}
        missing = [kernel for kernel in wanted if kernel not in found]
        for isa in dict.fromkeys(kernel.isa for kernel in missing):
            compiled = _compile([kernel for kernel in missing if kernel.isa == isa], isa)
            _COMPILED.update(compiled)
            _RECENT.append(list(compiled.values()))
            found.update(compiled)
        return found


def _compile(kernels: list[Kernel], isa: Isa) -> dict[Kernel, Code]:
    module = new_module()
    symbols = {kernel: f"{kernel.name}_{index}" for index, kernel in enumerate(kernels)}
    for kernel, symbol in symbols.items():
        emit_kernel(kernel, Emitter(module, symbol))
    engine = build_engine(module, isa)
    return {kernel: Code(engine.get_function_address(symbol), engine) for kernel, symbol in symbols.items()}


def new_module() -> Any:
    """An empty LLVM module for this process."""
    _start_llvm()
    module = ir.Module("fxq")
    module.triple = binding.get_process_triple()
    return module


def build_engine(module: Any, isa: Isa) -> Any:
    """IR → an engine, which owns the machine code."""
    machine = _target_machine(isa)
    parsed = _cleaned_up(module, machine)
    if os.environ.get("FXQ_DEBUG") == "asm":
        sys.stderr.write(f"{parsed}\n{machine.emit_assembly(parsed)}\n")
    engine = binding.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine


def assembly(kernel: Kernel) -> str:
    """The machine code of a kernel as text: what `compile_kernels` makes of it."""
    module = new_module()
    emit_kernel(kernel, Emitter(module, kernel.name))
    machine = _target_machine(kernel.isa)
    text: str = machine.emit_assembly(_cleaned_up(module, machine))
    return text


def _cleaned_up(module: Any, machine: Any) -> Any:
    """The IR is clean SSA already: LLVM's standard pipelines gain nothing on it and cost more than all else, so one pass cleans up."""
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    passes = binding.create_new_module_pass_manager()
    passes.add_instruction_combine_pass()
    passes.run(parsed, binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=0)))
    return parsed


@cache
def _start_llvm() -> None:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()


def _target_machine(isa: Isa) -> Any:
    # an engine owns its target machine, so each has its own
    host = isa.cpu == "host"
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name() if host else isa.cpu,
        features=binding.get_host_cpu_features().flatten() if host else "",
        opt=3,
        codemodel="jitdefault",
        jit=True,
    )
