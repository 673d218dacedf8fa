"""PReLU: a slope for each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fxq.runtime.integer.elementwise import PRelu
from fxq.runtime.jit.epilogue import HEADER_BYTES, Epilogue, Form, form_of, header, store_bytes, store_floats
from fxq.runtime.jit.ir import F32, I32, Emitter, Value, splat, vec
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, Layout, Planned, Span, Work
from fxq.runtime.jit.kernels.doubles import widened
from fxq.runtime.jit.rows import Rows, each_pixel, each_vector, pixel_span, row_count

_NUMBER = 4
_SLOPES = HEADER_BYTES + 3 * _NUMBER  # behind z_x, s_x and inv_y


@dataclass(frozen=True)
class Prelu(Kernel):
    """u = v ≥ 0 ? v : fl(a[c]·v), v = fl(f32(q − z_x)·s_x); y = epilogue(fl(u·inv_y))

    Attributes:
        x, y: of one shape.
        form: of the epilogue.
    """

    x: Layout
    y: Layout
    form: Form

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "parameters", "y")

    def units(self, images: int) -> int:
        return images * row_count(self.y.size)

    def spans(self) -> tuple[Span, ...]:
        parameters = Span(0, _SLOPES + _NUMBER * self.x.channels)
        return (pixel_span(self.x), parameters, pixel_span(self.y, 4 if self.form.floats else 1))

    def emit(self, e: Emitter, work: Work) -> None:
        x, parameters, y = work.pointers

        def pixel(_: Any, ends: list[Value]) -> None:
            each_vector(e, self.x.channels, self.isa.lanes, lambda i, n: self._vector(e, ends, parameters, i, n))

        each_pixel(e, work, (Rows(x, self.x), Rows(y, self.y)), pixel)

    def _vector(self, e: Emitter, ends: list[Value], parameters: Value, first: Any, count: int) -> None:
        b, reals, lanes = e.b, self.isa.reals, self.isa.lanes
        zero_point = e.broadcast(e.load(parameters, I32, HEADER_BYTES, _NUMBER), self.isa.sums)
        scale, inverse = (e.broadcast(e.load(parameters, F32, HEADER_BYTES + _NUMBER * slot, _NUMBER), reals) for slot in (1, 2))
        values = b.fmul(b.sitofp(b.sub(widened(e, ends[0], first, count, lanes), zero_point), reals), scale)
        slopes = e.load(e.at(parameters, e.add(_SLOPES, e.mul(first, _NUMBER))), vec(F32, count))
        if count < lanes:
            slopes = e.shuffle(slopes, [*range(count), *[0] * (lanes - count)])
        bent = b.fmul(b.select(b.fcmp_ordered(">=", values, splat(reals, 0.0)), values, b.fmul(values, slopes)), inverse)
        epilogue = Epilogue(e, self.isa, self.form, parameters)
        if self.form.floats:
            store_floats(e, [epilogue.floats(bent)], count, e.at(ends[1], e.mul(first, 4)), 0)
        else:
            store_bytes(e, epilogue.bytes([[bent]])[0], count, e.at(ends[1], first), 0)


def plan_prelu(op: PRelu, x: Layout, y: Layout, isa: Isa, *, signed: bool) -> Planned:
    """One slope for each channel, or one for all."""
    slopes = np.broadcast_to(op.slopes.numpy(), (x.channels,)).astype(np.float32)
    numbers = [np.array([op.x_zero_point + 128 * signed], np.int32), np.array([op.x_scale, op.inverse], np.float32), slopes]
    parameters = np.concatenate([header(op.output), *(number.view(np.uint8) for number in numbers)])
    return Planned(Prelu(isa, x, y, form_of(op.output)), (parameters,))
