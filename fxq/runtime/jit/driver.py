"""The function that runs a table of calls."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from llvmlite import ir

from fxq.runtime.jit.compile import build_engine, new_module
from fxq.runtime.jit.ir import I64, KERNEL_TYPE, PTR, VOID, Emitter, i64
from fxq.runtime.jit.isa import Isa

# words of a row of the table: address of the kernel, address of its words, units
COLUMNS = 3


@cache
def solo_driver() -> Callable[[int, int], None]:
    """run(table, rows): every call, all of its units, on this thread."""
    module = new_module()
    e = Emitter(module, "run_alone", ir.FunctionType(VOID, [PTR, I64]))
    table, rows = e.arguments

    def call(row: object, _: object) -> None:
        here = e.at(table, e.mul(row, 8 * COLUMNS))
        kernel = e.load(here, KERNEL_TYPE.as_pointer(), 0, 8)
        e.b.call(kernel, [e.load(here, PTR, 8, 8), i64(0), e.load(here, I64, 16, 8)])

    e.loop(0, rows, call)
    e.b.ret_void()
    engine = build_engine(module, Isa())
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(engine.get_function_address("run_alone"))
