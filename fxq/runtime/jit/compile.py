"""Kernels → machine code, in this process. Equal kernels compile once."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from functools import cache
from typing import Any

from llvmlite import binding, ir

from fxq.runtime.jit.ir import Emitter
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, emit_kernel

# addresses of the functions, and what keeps their code alive: kernels live as long as the process
_ADDRESSES: dict[Kernel, int] = {}
_ENGINES: list[Any] = []
_LOCK = threading.Lock()


def compile_kernels(kernels: Iterable[Kernel]) -> dict[Kernel, int]:
    """Kernel → the address of its function, `void (ptr words, i64 begin, i64 end)`. Those not yet compiled become one LLVM module.

    With FXQ_DEBUG=asm, the IR and the assembly of what is compiled are printed to standard error.
    """
    wanted = tuple(dict.fromkeys(kernels))
    with _LOCK:
        missing = [kernel for kernel in wanted if kernel not in _ADDRESSES]
        for isa in dict.fromkeys(kernel.isa for kernel in missing):
            _compile([kernel for kernel in missing if kernel.isa == isa], isa)
        return {kernel: _ADDRESSES[kernel] for kernel in wanted}


def _compile(kernels: list[Kernel], isa: Isa) -> None:
    module = new_module()
    symbols = {kernel: f"{kernel.name}_{len(_ADDRESSES) + index}" for index, kernel in enumerate(kernels)}
    for kernel, symbol in symbols.items():
        emit_kernel(kernel, Emitter(module, symbol))
    engine = build_engine(module, isa)
    _ADDRESSES.update((kernel, engine.get_function_address(symbol)) for kernel, symbol in symbols.items())


def new_module() -> Any:
    """An empty LLVM module for this process."""
    _start_llvm()
    module = ir.Module("fxq")
    module.triple = binding.get_process_triple()
    return module


def build_engine(module: Any, isa: Isa) -> Any:
    """IR → an engine with machine code, kept until the process ends."""
    machine = _target_machine(isa)
    parsed = _cleaned_up(module, machine)
    if os.environ.get("FXQ_DEBUG") == "asm":
        sys.stderr.write(f"{parsed}\n{machine.emit_assembly(parsed)}\n")
    engine = binding.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    _ENGINES.append(engine)
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
