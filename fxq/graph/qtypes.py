"""QuantSpec (what was asked), QParams (what was measured), and all quantization arithmetic. See docs/numerics.md."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.errors import ConfigError

QDType = Literal["uint8", "int8", "int32"]

EPS = 2.0**-23  # f32 machine epsilon: the smallest scale
QNNPACK_EPS = 2.0**-12

_DTYPE_RANGE: dict[str, tuple[int, int]] = {"uint8": (0, 255), "int8": (-128, 127), "int32": (-(2**31), 2**31 - 1)}
_TORCH_DTYPE = {"uint8": torch.uint8, "int8": torch.int8, "int32": torch.int32}

# torch.ao's names, accepted as input only: dtype or its quantized alias -> ours
_DTYPE_ALIASES: dict[object, QDType] = {
    torch.uint8: "uint8",
    torch.quint8: "uint8",
    torch.int8: "int8",
    torch.qint8: "int8",
    torch.int32: "int32",
    torch.qint32: "int32",
    "uint8": "uint8",
    "int8": "int8",
    "int32": "int32",
}


def qdtype(dtype: object) -> QDType:
    """`torch.uint8`, `torch.quint8` or `"uint8"` → `"uint8"`, and so on. Raises ConfigError for any other dtype."""
    try:
        return _DTYPE_ALIASES[dtype]
    except (KeyError, TypeError):
        raise ConfigError(
            "dtype",
            expected="one of torch.uint8, torch.int8, torch.int32 (or torch.quint8, torch.qint8, torch.qint32)",
            found=repr(dtype),
            remedy="name an 8-bit integer dtype, or leave the layer out with qconfig None to keep it float",
        ) from None


@dataclass(frozen=True)
class QuantSpec:
    """What was asked: the integers [qmin, qmax] of a dtype, and how real values are mapped to them.

    Attributes:
        dtype: storage type.
        qmin, qmax: the integers in use, both included.
        symmetric: zero_point is the middle of the range (0 for int8) and the range is symmetric around it.
        axis: the channel axis for one (scale, zero_point) per channel; None for one per tensor.
        dynamic: qparams come from each batch at run time.
        eps: the smallest scale.
    """

    dtype: QDType = "uint8"
    qmin: int = 0
    qmax: int = 255
    symmetric: bool = False
    axis: int | None = None
    dynamic: bool = False
    eps: float = EPS

    def __post_init__(self) -> None:
        low, high = _DTYPE_RANGE[self.dtype]
        if not low <= self.qmin < self.qmax <= high:
            raise ConfigError(
                "QuantSpec",
                expected=f"{low} <= qmin < qmax <= {high} for {self.dtype}",
                found=f"qmin={self.qmin}, qmax={self.qmax}",
                remedy="choose quant_min and quant_max inside the dtype's range",
            )
        if not self.eps > 0:
            raise ConfigError("QuantSpec.eps", expected="a positive number", found=repr(self.eps), remedy="use the default, 2**-23")

    @property
    def torch_dtype(self) -> torch.dtype:
        return _TORCH_DTYPE[self.dtype]

    @property
    def levels(self) -> int:
        return self.qmax - self.qmin + 1

    def __str__(self) -> str:
        kind = "symmetric" if self.symmetric else "affine"
        where = "per tensor" if self.axis is None else f"per channel {self.axis}"
        return f"{self.dtype} {self.qmin}..{self.qmax} {kind} {where}" + (" dynamic" if self.dynamic else "")


ACTIVATION = QuantSpec("uint8", 0, 255)
WEIGHT_PER_TENSOR = QuantSpec("int8", -127, 127, symmetric=True)
WEIGHT_PER_CHANNEL = QuantSpec("int8", -127, 127, symmetric=True, axis=0)


@dataclass(frozen=True, eq=False)
class QParams:
    """What was measured: real = scale · (q − zero_point).

    Attributes:
        spec: the integers and the mapping these belong to.
        scale: f32, shape [] per tensor or [channels] per channel, positive and finite.
        zero_point: i32, same shape, inside [spec.qmin, spec.qmax].
    """

    spec: QuantSpec
    scale: Tensor
    zero_point: Tensor

    def __eq__(self, other: object) -> bool:
        """Equal means: the same integers stand for the same reals."""
        if not isinstance(other, QParams):
            return NotImplemented
        same_grid = (self.spec.dtype, self.spec.qmin, self.spec.qmax, self.spec.axis) == (
            other.spec.dtype, other.spec.qmin, other.spec.qmax, other.spec.axis,
        )  # fmt: skip
        return same_grid and torch.equal(self.scale, other.scale) and torch.equal(self.zero_point, other.zero_point)

    __hash__ = None  # type: ignore[assignment]

    @property
    def is_finite(self) -> bool:
        """Whether every scale is a positive finite number."""
        scale = in_f64(self.scale)
        return bool(((scale > 0) & (scale < math.inf)).all())

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int, spec: QuantSpec = ACTIVATION) -> QParams:
        """From plain numbers."""
        return cls(spec, torch.tensor(scale, dtype=torch.float32), torch.tensor(zero_point, dtype=torch.int32))


def choose_qparams(low: Tensor, high: Tensor, spec: QuantSpec) -> QParams:
    """[low, high] → (scale, zero_point), by numerics.md.

    affine:    [low, high] is extended to contain 0; s = max((high − low)/(qmax − qmin), eps); z = clip(qmin − rint(low/s))
    symmetric: s = max(max(|low|, |high|) / half, eps), half = (qmax − qmin) // 2; z is the middle of the range

    Args:
        low, high: f32 or f64, shape [] per tensor or [channels] per channel, finite, low <= high.
    """
    low64, high64 = np.minimum(in_f64(low), 0.0), np.maximum(in_f64(high), 0.0)
    if spec.symmetric:
        half = (spec.qmax - spec.qmin) // 2
        scale = np.maximum(np.maximum(-low64, high64) / half, spec.eps).astype(np.float32)
        middle = 0 if spec.qmin < 0 else (spec.qmin + spec.qmax + 1) // 2
        return QParams(spec, in_torch(scale, low), in_torch(np.full_like(scale, middle, np.int32), low))
    scale = np.maximum((high64 - low64) / (spec.qmax - spec.qmin), spec.eps).astype(np.float32)
    zero_point = np.minimum(np.maximum(spec.qmin - np.rint(low64 / scale), spec.qmin), spec.qmax).astype(np.int32)
    return QParams(spec, in_torch(scale, low), in_torch(zero_point, low))


def in_f64(values: Tensor) -> NDArray[np.float64]:
    """In numpy, where an op on few numbers takes a tenth of its time in torch: training computes ranges in every step."""
    return values.detach().cpu().numpy().astype(np.float64)


def in_f32(values: Tensor) -> NDArray[np.float32]:
    """The same in float32; a tensor of that dtype lies in the same memory."""
    return values.detach().to("cpu", torch.float32).numpy()


def in_torch(values: NDArray[Any], like: Tensor) -> Tensor:
    """The inverse of in_f64: a tensor of the array's dtype on the other tensor's device."""
    return torch.from_numpy(np.asarray(values)).to(like.device)


def along(values: Tensor, axis: int | None, rank: int) -> Tensor:
    """Shape [channels] → [1, .., channels, .., 1], so that it broadcasts over a tensor of that rank."""
    if axis is None or values.ndim == 0:
        return values
    return values.reshape([-1 if dim == axis % rank else 1 for dim in range(rank)])


def dtype_of_range(qmin: int, qmax: int) -> QDType:
    """The smallest of uint8, int8, int32 that holds [qmin, qmax]."""
    if 0 <= qmin and qmax <= 255:
        return "uint8"
    return "int8" if -128 <= qmin and qmax <= 127 else "int32"


def quantize_tensor(x: Tensor, qparams: QParams) -> Tensor:
    """q = clip(rint(fl(x · inv)) + z), inv = 1f / f32(s).  NaN → qmin, ±inf saturate.

    Args:
        x: f32 of any shape. Per channel: x.shape[axis] == number of channels.

    Returns:
        the same shape in the spec's integer dtype.
    """
    spec = qparams.spec
    inverse = along(qparams.scale.reciprocal(), spec.axis, x.ndim)
    zero_point = along(qparams.zero_point, spec.axis, x.ndim)
    rounded = torch.round(x.to(torch.float32) * inverse)
    shifted = (rounded + zero_point).nan_to_num(nan=spec.qmin).clamp(spec.qmin, spec.qmax)
    return shifted.to(spec.torch_dtype)


def quantize_numbers(numbers: Iterable[float], qparams: QParams) -> list[int]:
    """quantize_tensor of a few numbers, per tensor."""
    spec = qparams.spec
    with np.errstate(over="ignore"):
        steps = np.rint(np.array(list(numbers), np.float32) * (1 / in_f32(qparams.scale))) + np.float32(qparams.zero_point)
    found: list[int] = np.minimum(np.fmax(steps, spec.qmin), spec.qmax).astype(int).tolist()
    return found


def dequantize_tensor(q: Tensor, qparams: QParams) -> Tensor:
    """x' = fl(f32(s) · f32(q − z)), f32 of q's shape."""
    axis = qparams.spec.axis
    zero_point = along(qparams.zero_point, axis, q.ndim)
    return (q.to(torch.int32) - zero_point).to(torch.float32) * along(qparams.scale, axis, q.ndim)


_BIAS_LIMIT = 2.0**30


def enlarge_scales(w: QParams, bias: Tensor | None, x: QParams) -> QParams:
    """Smallest s_w' ≥ s_w with |bias/(s_x·s_w')| < 2^30 in each channel: for dead channels, whose tiny s_w would overflow b_q.

    Quantize the weight with the result. A per-tensor scale becomes the largest that any channel needs.

    Args:
        w: qparams of the weight, per tensor or per output channel.
        bias: f32 [O] or None.
        x: qparams of the input, per tensor.
    """
    if bias is None:
        return w
    needed = np.abs(in_f64(bias)) / (float(x.scale) * _BIAS_LIMIT)
    if w.scale.ndim and needed.size != w.scale.numel():  # a grouped transposed convolution: each scale is in every group
        needed = needed.reshape(-1, w.scale.numel()).max(0)
    rounded = np.nextafter(needed.astype(np.float32) * np.float32(1 + 2.0**-20), np.float32(math.inf))  # room for the f32 roundings of b_q
    return replace(w, scale=torch.maximum(w.scale, in_torch(rounded if w.scale.ndim else rounded.max(), w.scale)))
