"""y = a ± b and y = a·b on 8-bit data. Operands broadcast."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.errors import ConfigError
from fxq.runtime.integer.elementwise import empty_result, flat_parts
from fxq.runtime.integer.module import IntegerOp, check_bytes
from fxq.runtime.integer.outputs import IntegerOutput, Output, finish_into, refuse_activation, rescale


@dataclass(frozen=True)
class Operand:
    """One side of a sum: real/s_y = fl(f32(q − zero_point)·ratio).

    Attributes:
        ratio: fl(s/s_y), an f32 value; s where the output is float or has an activation.
    """

    zero_point: int
    ratio: float

    def __str__(self) -> str:
        return f"zero_point={self.zero_point} ratio={self.ratio:.6g}"


class _Binary(IntegerOp, ABC):
    """Checks and broadcasts two 8-bit operands, then computes piece by piece."""

    output: Output

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """a, b u8 or s8 of shapes that broadcast → y. Raises DataError for other dtypes."""
        name = type(self).__name__
        check_bytes(f"{name}.a", a)
        check_bytes(f"{name}.b", b)
        y = empty_result((a, b), self.output)
        for out, a_part, b_part in flat_parts(y, (a, b)):
            self.compute(out, a_part, b_part)
        return y

    @abstractmethod
    def compute(self, out: Tensor, a: Tensor, b: Tensor) -> None:
        """Writes y to out."""


class Add(_Binary):
    """y = clip(rint(fl(fl(f32(a − z_a)·r_a) + fl(f32(b − z_b)·r_b))) + z_y), or float32 with FloatOutput."""

    def __init__(self, a: Operand, b: Operand, output: Output) -> None:
        super().__init__()
        self.a, self.b, self.output = a, b, output

    def compute(self, out: Tensor, a: Tensor, b: Tensor) -> None:
        finish_into(out, _sum(rescale(a, self.a.zero_point, self.a.ratio), rescale(b, self.b.zero_point, self.b.ratio)), self.output)

    def extra_repr(self) -> str:
        return f"a: {self.a}, b: {self.b}, y: {self.output}"


class Sub(Add):
    """y = clip(rint(fl(fl(f32(a − z_a)·r_a) − fl(f32(b − z_b)·r_b))) + z_y): Add with the sign of b's ratio turned, which is exact."""

    def __init__(self, a: Operand, b: Operand, output: Output) -> None:
        super().__init__(a, Operand(b.zero_point, -b.ratio), output)


@dataclass(frozen=True)
class FixedOperand:
    """One side of a fixed-point sum: (q − zero_point)·multiplier, multiplier < 2^22."""

    zero_point: int
    multiplier: int

    def __str__(self) -> str:
        return f"zero_point={self.zero_point} multiplier={self.multiplier}"


class AddFixedPoint(_Binary):
    """y = clip(round((a − z_a)·m_a + (b − z_b)·m_b >> shift) + z_y), rounding half away from zero: QNNPACK's sum, in int32.

    Source: QNNPACK, pytorch_qnnp_compute_add_quantization_params and its scalar q8vadd.

    Args:
        a, b: zero points and multipliers.
        shift: 1..31.

    Raises:
        ConfigError: the output has an activation, which needs the real value.
    """

    output: IntegerOutput

    def __init__(self, a: FixedOperand, b: FixedOperand, shift: int, output: IntegerOutput) -> None:
        super().__init__()
        refuse_activation("AddFixedPoint", output)
        self.a, self.b, self.shift, self.output = a, b, shift, output

    @staticmethod
    def covers(a: Operand, b: Operand) -> bool:
        """Both ratios are positive, and the larger one is in the range of QNNPACK's shift, [2^-10, 2^8)."""
        return min(a.ratio, b.ratio) > 0 and 2.0**-10 <= max(a.ratio, b.ratio) < 2.0**8

    @classmethod
    def from_ratios(cls, a: Operand, b: Operand, output: IntegerOutput) -> AddFixedPoint:
        """shift = 21 − e, e the exponent of the larger fl(s/s_y), and m = rint(fl(s/s_y)·2^shift).

        Raises:
            ConfigError: the ratios are not covered.
        """
        larger = max(a.ratio, b.ratio)
        if not cls.covers(a, b):
            raise ConfigError(
                "AddFixedPoint",
                expected="the larger of s_a/s_y and s_b/s_y in [2^-10, 2^8)",
                found=f"{larger:.6g}",
                remedy="calibrate with data that reaches this sum, or use the x86 profile",
            )
        shift = 22 - math.frexp(larger)[1]
        fixed = [FixedOperand(side.zero_point, round(math.ldexp(side.ratio, shift))) for side in (a, b)]
        return cls(fixed[0], fixed[1], shift, output)

    def compute(self, out: Tensor, a: Tensor, b: Tensor) -> None:
        acc = _sum(_times(a, self.a), _times(b, self.b))
        acc.sub_((acc < 0).to(torch.int32))  # ties go away from zero: one less below it, then half is added
        acc.bitwise_right_shift_(self.shift - 1).add_(1).bitwise_right_shift_(1)
        low, high = self.output.low - self.output.zero_point, self.output.high - self.output.zero_point
        out.copy_(acc.clamp_(low, high)).add_(self.output.zero_point)

    def extra_repr(self) -> str:
        return f"a: {self.a}, b: {self.b}, shift={self.shift}, y: {self.output}"


class Mul(_Binary):
    """y = clip(rint(fl(f32((a − z_a)(b − z_b))·m)) + z_y), m = fl(fl(s_a·s_b)·inv_y), or float32 with FloatOutput."""

    def __init__(self, a_zero_point: int, b_zero_point: int, multiplier: float, output: Output) -> None:
        super().__init__()
        self.a_zero_point, self.b_zero_point, self.multiplier, self.output = a_zero_point, b_zero_point, multiplier, output

    def compute(self, out: Tensor, a: Tensor, b: Tensor) -> None:
        centered_a = a.to(torch.float32).sub_(self.a_zero_point)
        centered_b = b.to(torch.float32).sub_(self.b_zero_point)
        product = centered_a.mul_(centered_b) if a.shape == b.shape else centered_a * centered_b  # |product| < 2^16: exact
        finish_into(out, product.mul_(self.multiplier), self.output)

    def extra_repr(self) -> str:
        return f"a: zero_point={self.a_zero_point}, b: zero_point={self.b_zero_point}, multiplier={self.multiplier:.6g}, y: {self.output}"


def _times(q: Tensor, side: FixedOperand) -> Tensor:
    return q.to(torch.int32).sub_(side.zero_point).mul_(side.multiplier)


def _sum(a: Tensor, b: Tensor) -> Tensor:
    """a + b, in place where neither is broadcast."""
    return a.add_(b) if a.shape == b.shape else a + b
