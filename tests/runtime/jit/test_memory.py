"""No byte outside of what a kernel declares is touched, and no program is run that would touch others."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import weakref
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from fxq.runtime.integer.conv import ConvGeometry
from fxq.runtime.jit import compile as compiler
from fxq.runtime.jit import kernels
from fxq.runtime.jit.compile import compile_kernels
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.plan import plan
from fxq.runtime.jit.program import Pointer, Program
from fxq.runtime.region import Region, Step, Value
from tests.runtime.jit.regions import EVERY_ISA, conv, random_bytes

ROOT = Path(__file__).parents[3]
FAMILIES = {
    "binaries": "fixedpointsum product sum",
    "norms": "bilinearpixels groupapply groupstatistics nearestpixels prelu rownorm rowsoftmax",
    "floats": "arithmetic curve normrows",
    "rows": "dynamic_gemm groupedrows lookuprows quantizerows rowranges sumrows",
    "moves": "border copy fill transpose",
    "rest": "attention choose clip depthwise dequantize gemm lookup matmul maxpooling meanpooling pack packkeys quantize",
}


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_kernels_stay_inside_their_spans(isa: Isa) -> None:
    run = [sys.executable, "-m", "tests.runtime.jit.guarded", isa.name]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.returncode} in {done.stderr.splitlines()[-1:]}"
    assert done.stdout.split() == sorted(" ".join(FAMILIES.values()).split())


def test_every_family_is_among_the_examples() -> None:
    """A new file of kernels needs an example in guarded.py."""
    folder = Path(inspect.getfile(kernels)).parent
    families = "attention choose conv conv_transpose copy depthwise doubles dynamic_gemm dynamic_rows elementwise embedding float_rows gemm"
    families += " gemm_shape grouped_rows hidden_product keys matmul norm pack pool prelu quantize recurrence resize softmax tile_end"
    families += " tile_sum transpose"
    assert {path.stem for path in folder.glob("*.py")} == {"__init__", *families.split()}


def program(layers: int = 1) -> Program:
    op = conv((8, 8, 3, 3), ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1)))
    region = Region("region", 1, tuple(Step("step", op, (Value(number),), {}) for number in range(layers)), (layers,))
    return plan(region, region.trace([random_bytes((2, 8, 6, 7))]), find_isa())


def test_code_goes_with_the_programs_that_call_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_RECENT", deque(maxlen=1))
    monkeypatch.setattr(compiler, "_COMPILED", weakref.WeakValueDictionary())
    one, two = ([call.planned.kernel for call in program(layers).calls] for layers in (1, 2))
    held = compile_kernels(one)
    codes = [weakref.ref(code) for code in held.values()]
    rest = [weakref.ref(code) for kernel, code in compile_kernels(two).items() if kernel not in held]
    gc.collect()
    assert all(code() for code in codes) and compile_kernels(one) == held
    del held
    gc.collect()
    assert not any(code() for code in codes) and rest and all(code() for code in rest)


def test_constants_are_in_memory_once() -> None:
    planned = program(layers=2)
    held = {id(block): block for call in planned.calls for block in call.planned.constants}
    assert held.keys() == {id(block) for block in planned.constants}


def test_verify_accepts_what_is_planned() -> None:
    program().verify()


@pytest.mark.parametrize("operand", range(4))
@pytest.mark.parametrize("offset", [-64, 200_000])
def test_verify_refuses_pointers_elsewhere(operand: int, offset: int) -> None:
    planned = program()
    stages = [list(stage) for stage in planned.stages]
    position = next(number for number, stage in enumerate(stages) if stage[-1].planned.kernel.name == "gemm")
    call = stages[position][-1]
    pointers = list(call.pointers)
    pointers[operand] = Pointer(pointers[operand].kind, pointers[operand].index, pointers[operand].offset + offset)
    stages[position][-1] = replace(call, pointers=tuple(pointers))
    with pytest.raises(AssertionError, match="step gemm"):
        replace(planned, stages=tuple(map(tuple, stages))).verify()


def test_verify_refuses_buffers_that_are_too_small() -> None:
    planned = program()
    for number, buffer in enumerate(planned.buffers):
        smaller = (*planned.buffers[:number], replace(buffer, nbytes=8), *planned.buffers[number + 1 :])
        with pytest.raises(AssertionError, match="of 8 bytes"):
            replace(planned, buffers=smaller).verify()


def test_verify_refuses_buffers_that_share_bytes() -> None:
    planned = program(layers=2)
    arena = [number for number, buffer in enumerate(planned.buffers) if buffer.place == "arena"]
    assert len(arena) == 2
    with pytest.raises(AssertionError, match="share bytes"):
        replace(planned, offsets=(0,) * len(planned.offsets)).verify()
