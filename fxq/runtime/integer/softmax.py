"""y = softmax(x) on 8-bit data, by a table of exponentials and integer sums."""

from __future__ import annotations

import decimal

import torch
from torch import Tensor

from fxq.errors import ConfigError, DataError
from fxq.runtime.integer.module import IntegerOp, check_bytes
from fxq.runtime.integer.outputs import Output, finish_doubles, inverse_of, refuse_activation

_BITS = 38  # 2^24 exponentials of at most 2^38 add up to 2^62
_LONGEST = 2**24


def exponentials(scale: float) -> Tensor:
    """E[d] = rint(exp(−scale·d)·2^38), i64 [256], correctly rounded: in decimal arithmetic of 50 digits, so the same on every machine.

    Args:
        scale: s_x, an f32 value.

    Raises:
        ConfigError: the scale isn't positive and finite.
    """
    if not 0 < scale < float("inf"):
        raise ConfigError("Softmax.scale", expected="a positive, finite scale", found=repr(scale), remedy="calibrate the softmax's input")
    context = decimal.Context(prec=50, rounding=decimal.ROUND_HALF_EVEN, traps=[])
    step = context.copy_negate(decimal.Decimal(scale))
    powers = (context.multiply(context.exp(context.multiply(step, decimal.Decimal(d))), decimal.Decimal(2**_BITS)) for d in range(256))
    return torch.tensor([int(power.to_integral_value(decimal.ROUND_HALF_EVEN)) for power in powers])


class Softmax(IntegerOp):
    """y = clip(rint(fl64(fl64(E[d] / ΣE[d])·inv_y)) + z_y), d = max(q) − q along one dimension, or fl(E/ΣE) with FloatOutput.

    The zero point of x cancels. E is an integer table (see `exponentials`), ΣE an int64 sum that is exact and then rounded to f64 once;
    quotient and product are f64, so y is rounded once where it matters, and lies within one step of the real softmax.

    Args:
        scale: s_x.
        dim: may be negative.
        output: inverse = fl(1f/s_y) is needed; 256 for the usual s_y = 1/256.
    """

    table: Tensor

    def __init__(self, scale: float, dim: int, output: Output) -> None:
        super().__init__()
        refuse_activation("Softmax", output)
        self.scale, self.dim, self.output, self.inverse = scale, dim, output, inverse_of("Softmax", output)
        self.register_buffer("table", exponentials(scale))

    def forward(self, x: Tensor) -> Tensor:
        """x u8 or s8 of any shape → y. Raises DataError for other dtypes, or more than 2^24 elements along dim."""
        check_bytes("Softmax", x)
        if x.numel() == 0:
            return finish_doubles(x.to(torch.float64), self.output)
        if x.ndim and x.shape[self.dim] > _LONGEST:
            raise DataError(
                "Softmax",
                expected="at most 2^24 elements per sum, so that it fits in 64 bits",
                found=f"shape {tuple(x.shape)}, dim {self.dim}",
                remedy="leave this softmax float",
            )
        wide = x.to(torch.int32)
        distance = wide.amax(self.dim, keepdim=True).sub(wide)
        powers = self.table.index_select(0, distance.reshape(-1)).view(distance.shape)
        sums = powers.sum(self.dim, keepdim=True).to(torch.float64)
        return finish_doubles(powers.to(torch.float64).div_(sums).mul_(self.inverse), self.output)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, x: scale={self.scale:.6g}, y: {self.output}"
