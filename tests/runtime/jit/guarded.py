"""`python -m tests.runtime.jit.guarded ISA`: every kernel between memory that must not be touched; ends by a signal where one does.

Each operand has exactly the bytes that the kernel's spans declare, once with an inaccessible page behind them and once in front.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.graph import movement
from fxq.graph.functional import add, amin, clamp, dequantize, gelu, layer_norm, maximum, mul, quantize, rms_norm
from fxq.graph.weight_format import WeightFormat
from fxq.runtime.integer.binary import Add, AddFixedPoint, Mul, Operand
from fxq.runtime.integer.conv import ConvGeometry
from fxq.runtime.integer.conv_transpose import ConvTransposeGeometry
from fxq.runtime.integer.elementwise import PRelu
from fxq.runtime.integer.matmul import MatMul
from fxq.runtime.integer.norm import Affine, GroupNorm, LayerNorm
from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput
from fxq.runtime.integer.pool import AdaptiveAvgPool, MaxPool, PoolGeometry
from fxq.runtime.integer.resize import Bilinear, Nearest, ResizeTarget
from fxq.runtime.integer.softmax import Softmax
from fxq.runtime.integer.table import Table
from fxq.runtime.jit.compile import compile_kernels
from fxq.runtime.jit.dynamic import CompiledProduct
from fxq.runtime.jit.grouped import CompiledGrouped
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.kernels.attention import Attention, Heads
from fxq.runtime.jit.kernels.embedding import LookUpRows, SumRows
from fxq.runtime.jit.kernels.embedding import Table as RowTable
from fxq.runtime.jit.kernels.keys import Geometry, PackKeys, Steps, packed_bytes
from fxq.runtime.jit.plan import plan
from fxq.runtime.jit.program import Call, Program
from fxq.runtime.region import Region, Step, Value
from tests.runtime.jit.regions import (
    OUTPUTS,
    conv,
    conv_transpose,
    dynamic_linear,
    linear,
    normal_conv,
    one_step,
    random_bytes,
    weight_only_linear,
)

PAGE = mmap.PAGESIZE
_ALIGNMENT = 64
_NO_ACCESS, _ALL_ACCESS = 0, 3
_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)

# what stays mapped until the process ends
_MAPPED: list[mmap.mmap] = []


def examples() -> Iterator[tuple[Region, list[Tensor]]]:
    """At least one of every kernel, with sizes beside those of vectors and tiles."""
    one, two = ((1, 1), (1, 1)), ((2, 2), (2, 2))
    image = random_bytes((2, 37, 9, 11))
    yield one_step(conv((35, 3, 3, 3), ConvGeometry((2, 2), one, (1, 1)))), [random_bytes((2, 3, 9, 11))]
    yield (
        one_step(conv((67, 37, 1, 1), ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1)), residual=True), 2),
        [image, random_bytes((2, 67, 9, 11))],
    )
    yield one_step(conv((40, 5, 3, 3), ConvGeometry((1, 1), two, (2, 2), 4), "float")), [random_bytes((2, 20, 9, 11))]
    yield one_step(conv((37, 1, 3, 3), ConvGeometry((1, 1), one, (1, 1), 37))), [image]
    yield one_step(conv((100, 1, 5, 5), ConvGeometry((2, 2), two, (1, 1), 100))), [random_bytes((2, 100, 9, 11))]
    spread = ConvTransposeGeometry((2, 2), (1, 1), (1, 1), (1, 1), 1)
    yield one_step(conv_transpose((37, 35, 3, 3), spread)), [image]
    yield one_step(normal_conv((37, 37, 3, 3), ConvGeometry((1, 1), one, (1, 1)), 35.0)), [image]
    yield one_step(linear(37, 70)), [random_bytes((5, 37))]
    yield one_step(linear(37, 70, "float", residual=True), 2), [random_bytes((2, 19, 37)), random_bytes((2, 19, 70))]
    for a, b in (((2, 3, 15, 70), (2, 3, 70, 37)), ((2, 3, 5, 9), (9, 35)), ((15, 70), (70,))):
        yield one_step(MatMul(3, 9, 0.01, OUTPUTS["shifted"]), 2), [random_bytes(a).contiguous(), random_bytes(b).contiguous()]
        yield (
            one_step(MatMul(3, 9, 0.01, OUTPUTS["float"]), 2),
            [random_bytes(a).contiguous(), _transposed(random_bytes(b))],
        )
    yield one_step(MaxPool(PoolGeometry((3, 3), (2, 2), (1, 1)))), [image]
    yield one_step(AdaptiveAvgPool((2, 3), 0.9, 100, OUTPUTS["shifted"])), [image]
    yield one_step(Add(Operand(3, 0.5), Operand(9, 0.4), OUTPUTS["shifted"]), 2), [image, image]
    yield one_step(AddFixedPoint.from_ratios(Operand(3, 0.5), Operand(9, 0.4), IntegerOutput("uint8", 9, 0, 255)), 2), [image, image]
    yield one_step(Mul(3, 9, 0.01, OUTPUTS["shifted"]), 2), [image, random_bytes((2, 37, 1, 1))]
    yield one_step(Mul(3, 9, 0.01, OUTPUTS["shifted"]), 2), [image, random_bytes((37, 1, 1))]
    yield one_step(Table(random_bytes((256,)))), [image]
    yield one_step(clamp, min=9, max=200), [image]
    yield one_step(maximum, 2), [image, random_bytes((2, 37, 1, 1))]
    yield Region("region", 2, (Step("y", movement.where, (3, Value(0)), {"condition": Value(1)}),), (2,)), [image, image > 9]
    yield one_step(movement.flip, dims=(0, 1, 3)), [image]
    yield one_step(amin, dim=(2, 3)), [image]
    yield one_step(conv((35, 37, 3, 3), ConvGeometry((1, 1), one, (1, 1), 1, "reflect"))), [image]
    yield one_step(movement.pad, pad=(2, 1, 0, 3), mode="constant", value=7), [image]
    yield from normalizing(image)
    for resize in (Nearest(ResizeTarget(size=13)), Bilinear(ResizeTarget(scale_factor=1.7))):
        yield one_step(resize), [image]
    yield one_step(quantize, scale=0.1, zero_point=7), [torch.randn(2, 3, 9, 37)]
    yield one_step(quantize, scale=0.1, zero_point=7), [torch.randn(2, 21)]
    yield one_step(quantize, scale=0.1, zero_point=7), [torch.randn(2, 37, 3, 21)]
    yield one_step(dequantize, scale=0.1, zero_point=7), [image]
    yield one_step(movement.flatten, start_dim=1), [image]
    yield from floats(torch.randn(2, 3, 37))


def _transposed(x: Tensor) -> Tensor:
    """The same matrices, columns outside; a vector as it is."""
    return x.transpose(-1, max(-2, -x.ndim)).contiguous().transpose(-1, max(-2, -x.ndim))


def normalizing(image: Tensor) -> Iterator[tuple[Region, list[Tensor]]]:
    """Softmax, norms, and what has a constant for each channel."""
    affine = Affine(torch.randn(37), torch.randn(37))
    for output in (IntegerOutput("uint8", 128, 0, 255, 40.0), FloatOutput()):
        yield one_step(Softmax(0.05, -1, output)), [random_bytes((2, 3, 5, 77)).contiguous()]
        yield one_step(LayerNorm((37,), 0.04, 1e-5, affine, output)), [random_bytes((2, 5, 37)).contiguous()]
        yield one_step(PRelu(torch.randn(37), 0.05, 9, output)), [image]
        for groups in (1, 37):
            yield one_step(GroupNorm(groups, 0.04, 1e-5, affine, output)), [image]


def floats(x: Tensor) -> Iterator[tuple[Region, list[Tensor]]]:
    """Dynamic layers and the float ops between them."""
    yield one_step(dynamic_linear(37, 70, per_row=False)), [x]
    yield one_step(gelu), [x]
    for other in (torch.randn(37), 2.0):
        yield Region("region", 1, (Step("product", mul, (Value(0), other), {}),), (1,)), [x]
    vectors, kwargs = (torch.randn(37), torch.randn(37)), {"normalized_shape": (37,)}
    steps = (Step("sum", add, (Value(0), Value(1)), {}), Step("norm", layer_norm, (Value(2), *vectors), kwargs))
    for outputs in ((2, 3), (3,), (2,)):
        yield Region("region", 2, steps[: max(outputs) - 1], outputs), [x, x]
    yield Region("region", 1, (Step("norm", layer_norm, (Value(0), *vectors), kwargs),), (1,)), [x]
    yield Region("region", 1, (Step("norm", rms_norm, (Value(0), vectors[0]), kwargs),), (1,)), [x]


def programs(isa: Isa) -> Iterator[Program]:
    """Those of the examples, and those over rows."""
    for region, inputs in examples():
        yield plan(region, region.trace(inputs), isa)
    for per_row in (True, False):
        yield CompiledProduct(dynamic_linear(37, 70, per_row=per_row).product, isa).plan(7)
    for bits, rows in ((4, 1), (4, 7), (8, 7), (16, 1)):
        yield CompiledGrouped(weight_only_linear(45, 70, WeightFormat(bits, 16)).product, isa).plan(rows)


def guarded(data: NDArray[np.uint8], *, behind: bool, alignment: int = 1) -> int:
    """Address of a copy of the data that ends, or begins, at an inaccessible page."""
    size = -(-max(1, data.nbytes) // alignment) * alignment
    pages = -(-size // PAGE) + 2
    memory = mmap.mmap(-1, pages * PAGE)
    _MAPPED.append(memory)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    start = base + (pages - 1) * PAGE - size if behind else base + PAGE
    ctypes.memmove(start, data.ctypes.data, data.nbytes)
    for page in (0, pages - 1):
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(base + page * PAGE), PAGE, _NO_ACCESS):
            raise OSError("mprotect")
    return start


def run_guarded(call: Call, program: Program, address: int, *, behind: bool) -> None:
    """The call, on memory of its own."""
    words = []
    for pointer, span in zip(call.pointers, call.planned.kernel.spans(), strict=True):
        reach = span.over(call.images)
        if pointer.kind == "constant":
            words.append(guarded(program.constants[pointer.index], behind=behind, alignment=_ALIGNMENT))
        else:
            words.append(guarded(np.zeros(reach.end - reach.first, np.uint8), behind=behind) - reach.first)
    table = np.array([*words, call.images], np.int64)
    _FUNCTION(address)(table.ctypes.data, 0, call.units)


def run_attention(isa: Isa) -> Iterator[str]:
    """Attention learns at run time how long its tensors are: dense ones, with exactly the bytes that they have."""
    images, heads, queries, keys, features, outputs = 2, 3, 7, 21, 37, 19
    sizes = {"x": (queries, features), "keys": (keys, features), "values": (keys, outputs)}
    sizes |= {"mask": (queries, keys), "y": (queries, outputs)}
    steps = {name: Steps(4 * heads * rows * width, 4 * rows * width, 4 * width) for name, (rows, width) in sizes.items()}
    words = Geometry(queries, keys, 0.3, steps).words
    packed = heads * packed_bytes(keys, features, isa)
    for kernel in (PackKeys(isa, heads, features), Attention(isa, Heads(heads, 1, features, outputs, "float", False))):
        nbytes = {"geometry": len(words), **{name: images * heads * rows * width * 4 for name, (rows, width) in sizes.items()}}
        read = {"PackKeys": {"x": nbytes["keys"], "y": images * packed}, "Attention": {"keys": images * packed}}[type(kernel).__name__]
        code = compile_kernels([kernel])[kernel]
        for behind in (True, False):
            memory = [np.zeros({**nbytes, **read}[name], np.uint8) for name in kernel.operands]
            pointers = [guarded(each, behind=behind, alignment=4) for each in memory]
            ctypes.memmove(pointers[0], words.ctypes.data, len(words))
            table = np.array([*pointers, images], np.int64)
            _FUNCTION(code.address)(table.ctypes.data, 0, kernel.units(images))
        yield kernel.name


def run_embeddings(isa: Isa) -> Iterator[str]:
    """Tables are as long as their caller says: all rows of some, with exactly the bytes that they have."""
    rows, indices = 5, np.arange(5, dtype=np.int64)
    for bits in (4, 8, 16):
        table = RowTable(37, bits, 16, bits < 16)
        for kernel, images in ((LookUpRows(isa, table), rows), (SumRows(isa, table, "sum", weighted=True), 1)):
            given = {"indices": indices, "offsets": np.array([0, rows]), "factors": np.ones(rows, np.float32)}
            given |= {name: np.zeros(rows * table.row_bytes(name), np.uint8) for name in table.constants}
            memory = [{**given, "y": np.zeros(images * 4 * table.features, np.uint8)}[name].view(np.uint8) for name in kernel.operands]
            code = compile_kernels([kernel])[kernel]
            sys.stderr.write(f"{kernel}\n")
            for behind in (True, False):
                words = np.array([*(guarded(each, behind=behind) for each in memory), images], np.int64)
                _FUNCTION(code.address)(words.ctypes.data, 0, kernel.units(images))
            yield kernel.name


def main(isa: Isa) -> None:
    """Prints the names of the kernels that were run."""
    names = {*run_attention(isa), *run_embeddings(isa)}
    for program in programs(isa):
        program.verify()
        code = compile_kernels(call.planned.kernel for call in program.calls)
        for call in program.calls:
            names.add(call.planned.kernel.name)
            sys.stderr.write(f"{call.step} {call.planned.kernel}\n")  # the last line names the culprit
            for behind in (True, False):
                run_guarded(call, program, code[call.planned.kernel].address, behind=behind)
    sys.stdout.write(" ".join(sorted(names)) + "\n")


if __name__ == "__main__":
    main(find_isa(sys.argv[1]))
