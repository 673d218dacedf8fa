"""acc → y: what every op with an accumulator does last. See docs/numerics.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.qtypes import QDType

STORAGE: dict[str, torch.dtype] = {"uint8": torch.uint8, "int8": torch.int8, "int32": torch.int32}
_BYTE_RANGE = {"uint8": (0, 255), "int8": (-128, 127)}

_SIXTH = 11184811 / 2**26  # fl(1f/6)

# fl(v + 1.5·2^23) is 1.5·2^23 + rint(v) for |v| < 2^22, ties to even, and its low byte is that of rint(v)
_ROUNDING = 1.5 * 2**23


@dataclass(frozen=True)
class Activation:
    """u = f(v) on the real value v, in f32 in this order:

        hardswish    fl(fl(v·clamp(fl(v + 3), 0, 6))·fl(1f/6))
        hardsigmoid  fl(clamp(fl(v + 3), 0, 6)·fl(1f/6))
        leaky_relu   v ≥ 0 ? v : fl(slope·v)

    Attributes:
        slope: of leaky_relu, rounded to f32.
    """

    kind: Literal["hardswish", "hardsigmoid", "leaky_relu"]
    slope: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} slope={self.slope:.6g}" if self.kind == "leaky_relu" else self.kind

    def apply(self, values: Tensor) -> Tensor:
        """v → u. May change the given f32 values."""
        if self.kind == "leaky_relu":
            return torch.where(values >= 0, values, values * self.slope)
        gate = (values + 3).clamp_(0, 6)
        return (gate if self.kind == "hardsigmoid" else gate.mul_(values)).mul_(_SIXTH)


@dataclass(frozen=True)
class IntegerOutput:
    """y = clip(rint(v) + zero_point, low, high), 8-bit; y = clip(rint(fl(f(v)·inverse)) + zero_point, low, high) with an activation f.

    With an activation v must be the real value, not v/s_y: the op in front has multiplier fl(s_x·s_w[c]) (Conv, Linear, ConvTranspose),
    fl(s_a·s_b) (Mul, MatMul), s_x (pools), and ratio s_a where it would have fl(s_a/s_y) (Add, Sub, Residual): what they have for
    FloatOutput, never rounded to fewer bits.

    Attributes:
        dtype: "uint8" or "int8".
        zero_point: inside the dtype's range.
        low, high: the final bounds, those of a fused activation included.
        inverse: inv_y = fl(1f/s_y), for activations and the ops that compute real values first; others have it in their multiplier.
        activation: f, applied before the one rounding.
    """

    dtype: QDType
    zero_point: int
    low: int
    high: int
    inverse: float | None = None
    activation: Activation | None = None

    def __post_init__(self) -> None:
        least, most = _BYTE_RANGE.get(self.dtype, (0, -1))
        if not (least <= self.low <= self.high <= most and least <= self.zero_point <= most):
            raise ConfigError(
                "IntegerOutput",
                expected="dtype uint8 or int8, low <= high and a zero_point inside its range",
                found=str(self),
                remedy="quantize this output to 8 bits, or leave it float with FloatOutput",
            )
        if self.activation is not None:
            inverse_of("IntegerOutput with an activation", self)

    def __str__(self) -> str:
        plain = f"{self.dtype} zero_point={self.zero_point} [{self.low}, {self.high}]"
        return plain if self.activation is None else f"{self.activation}, {plain}"


@dataclass(frozen=True)
class FloatOutput:
    """y = clamp(v, low, high), float32; y = clamp(f(v), low, high) with an activation f."""

    low: float = -math.inf
    high: float = math.inf
    activation: Activation | None = None

    def __str__(self) -> str:
        plain = "float32" if self.low == -math.inf and self.high == math.inf else f"float32 [{self.low}, {self.high}]"
        return plain if self.activation is None else f"{self.activation}, {plain}"


Output = IntegerOutput | FloatOutput


@dataclass(frozen=True, eq=False)
class PackedWeights:
    """The constants of one conv or linear: acc[c] = Σ x_q·weight[c] + bias[c], v = fl(f32(acc[c])·multiplier[c]).

    Attributes:
        weight: s8, output channels first: [O, I/groups, *kernel] or [O, I]; [I, O/groups, *kernel] for ConvTranspose.
        bias: i32 [O], with −z_x·Σw already in it; b_q alone for ConvTranspose.
        multiplier: f32 [O].
    """

    weight: Tensor
    bias: Tensor
    multiplier: Tensor


@dataclass(frozen=True)
class Residual:
    """A second operand a, of y's shape, added before the rounding: v' = fl(v + fl(f32(a − zero_point)·ratio)).

    ratio = fl(s_a/s_y), or s_a where the output is float or has an activation.
    """

    zero_point: int
    ratio: float

    def __str__(self) -> str:
        return f"residual zero_point={self.zero_point} ratio={self.ratio:.6g}"


def inverse_of(where: str, output: Output) -> float:
    """inv_y of an op that computes real values; 1 for FloatOutput. Raises ConfigError for an IntegerOutput without it."""
    if isinstance(output, FloatOutput):
        return 1.0
    if output.inverse is None:
        raise ConfigError(
            where,
            expected="an output with inverse = fl(1f/s_y)",
            found=str(output),
            remedy="make it with fxq.lowering.requantize.integer_output, or give inverse",
        )
    return output.inverse


def refuse_activation(where: str, output: Output) -> None:
    """Raises ConfigError for an op that ends without an f32 real value."""
    if output.activation is not None:
        raise ConfigError(
            where, expected="an output without an activation", found=str(output), remedy="put the activation into an op of its own"
        )


def output_dtype(output: Output) -> torch.dtype:
    """The torch dtype of y."""
    return STORAGE[output.dtype] if isinstance(output, IntegerOutput) else torch.float32


def rescale(q: Tensor, zero_point: int, ratio: float) -> Tensor:
    """fl(f32(q − zero_point)·ratio), a new f32 tensor; q is 8-bit, so that f32(q) − z is exact."""
    return q.to(torch.float32).sub_(zero_point).mul_(ratio)


def _activate(values: Tensor, output: Output) -> Tensor:
    """v → f(v), times inv_y for an IntegerOutput. Without an activation the values themselves, which have it in their multiplier."""
    if output.activation is None:
        return values
    activated = output.activation.apply(values)
    return activated if isinstance(output, FloatOutput) else activated.mul_(inverse_of("IntegerOutput", output))


def finish(values: Tensor, output: Output) -> Tensor:
    """v → y. Changes the given f32 values; the result has their strides."""
    values = _activate(values, output)
    if isinstance(output, FloatOutput):
        return _clamp(values, output)
    rounded = values.clamp_(output.low - output.zero_point, output.high - output.zero_point).add_(_ROUNDING)
    return rounded.view(torch.int32).to(STORAGE[output.dtype]).add_(output.zero_point)


def finish_doubles(values: Tensor, output: Output) -> Tensor:
    """y = clip(rint(v) + z, low, high) of f64 values, one rounding, NaN → low; or fl(clamp(v)), f32. Changes the given values."""
    if isinstance(output, FloatOutput):
        return _clamp(values, output).to(torch.float32)
    low, high = output.low - output.zero_point, output.high - output.zero_point
    return values.nan_to_num_(nan=low).clamp_(low, high).round_().add_(output.zero_point).to(STORAGE[output.dtype])


def finish_into(out: Tensor, values: Tensor, output: Output) -> None:
    """Like `finish`, written to out (dtype of the output, shape of the values)."""
    values = _activate(values, output)
    if isinstance(output, FloatOutput):
        out.copy_(_clamp(values, output))
        return
    rounded = values.clamp_(output.low - output.zero_point, output.high - output.zero_point).add_(_ROUNDING)
    out.copy_(rounded.view(torch.int32)).add_(output.zero_point)  # modulo 256, as the bytes are


def _clamp(values: Tensor, output: FloatOutput) -> Tensor:
    unbounded = output.low == -math.inf and output.high == math.inf
    return values if unbounded else values.clamp_(output.low, output.high)
