"""Layer, group and instance norm on 8-bit data: exact statistics, then one rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.errors import DataError
from fxq.runtime.integer.module import IntegerOp, check_bytes
from fxq.runtime.integer.outputs import Output, finish_doubles, inverse_of, refuse_activation

_MOST = 2**23  # elements whose n·Σq² and n·q are exact: n·n·255² < 2^62, n·255 < 2^53


@dataclass(frozen=True, eq=False)
class Affine:
    """What follows the normalization: u·weight + bias, f32 each; None for 1 and for 0."""

    weight: Tensor | None = None
    bias: Tensor | None = None


class _Norm(IntegerOp):
    """y = clip(rint(fl(fl(fl(n·q − S)·r)·W) + B) + z_y): the formula of every norm here, in f64, over n elements at a time.

    With S = Σq and V = n·Σq² − S² as exact integers, the variance of the integers is V/n², and

        e = fl(fl(eps/s_x)/s_x)      r = fl(1/sqrt(fl(f64(V) + fl(f64(n²)·e))))      W = f64(weight)·inv_y      B = f64(bias)·inv_y

    where fl is a f64 rounding, and W, B and n·q − S have none: f32 times f32 fits in f64. The zero point of x cancels, and eps is that of
    the real values. Without a weight W = inv_y; without a bias B isn't added. 0·∞, where V and eps are 0, is NaN, which becomes low.
    FloatOutput has inv_y = 1, and fl32 in place of clip(rint(·)).
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, scale_x: float, eps: float, affine: Affine, output: Output) -> None:
        super().__init__()
        refuse_activation(type(self).__name__, output)
        self.scale_x, self.eps, self.output = scale_x, eps, output
        self.inverse = inverse_of(type(self).__name__, output)
        self.register_buffer("weight", None if affine.weight is None else affine.weight.detach().to(torch.float32))
        self.register_buffer("bias", None if affine.bias is None else affine.bias.detach().to(torch.float32))

    @property
    def affine(self) -> Affine:
        """The constants it was built from."""
        return Affine(self.weight, self.bias)

    def _normalize(self, rows: Tensor) -> Tensor:
        """fl((n·q − S)·r), f64, of u8 or s8 [R, n] along the second dimension. Raises DataError for n > 2^23."""
        count = rows.shape[1]
        if count > _MOST:
            raise DataError(
                type(self).__name__,
                expected="at most 2^23 elements per mean and variance, so that 64 bits hold their sums",
                found=str(count),
                remedy="leave this norm float",
            )
        q = rows.to(torch.float64)
        sums, squares = q.sum(1, keepdim=True), q.square().sum(1, keepdim=True)  # integers below 2^53: exact in any order
        variance = squares.to(torch.int64) * count - sums.to(torch.int64).square()
        offset = (self.eps / self.scale_x / self.scale_x) * float(count * count)
        reciprocal = 1.0 / (variance.to(torch.float64) + offset).sqrt()
        return q.mul_(count).sub_(sums).mul_(reciprocal)

    def _finish(self, values: Tensor, shape: tuple[int, ...]) -> Tensor:
        """fl(fl(u·W) + B) → y; weight and bias viewed with that shape, to be broadcast."""
        if self.weight is None:
            values.mul_(self.inverse)
        else:
            values.mul_(self.weight.to(torch.float64).mul_(self.inverse).view(shape))
        if self.bias is not None:
            values.add_(self.bias.to(torch.float64).mul_(self.inverse).view(shape))
        return finish_doubles(values, self.output)

    def _constants(self) -> str:
        present = [name for name, value in (("weight", self.weight), ("bias", self.bias)) if value is not None]
        return ", ".join([f"x: scale={self.scale_x:.6g}", f"eps={self.eps:.6g}", *present, f"y: {self.output}"])


class LayerNorm(_Norm):
    """y = (x − mean)/sqrt(var + eps)·weight + bias over the last dimensions, in the order that `_Norm` gives.

    Args:
        normalized_shape: of the last dimensions.
        scale_x: s_x, an f32 value.
        eps: of torch.nn.LayerNorm, added to the variance of the real values.
        affine: weight and bias of normalized_shape, or None.
        output: inverse = fl(1f/s_y) is needed.
    """

    def __init__(self, normalized_shape: tuple[int, ...], scale_x: float, eps: float, affine: Affine, output: Output) -> None:
        super().__init__(scale_x, eps, affine, output)
        self.normalized_shape = normalized_shape

    def forward(self, x: Tensor) -> Tensor:
        """x u8 or s8 [..., *normalized_shape] → y. Raises DataError for other dtypes and shapes."""
        check_bytes("LayerNorm", x)
        shape = self.normalized_shape
        if x.shape[-len(shape) :] != shape:
            raise DataError(
                "LayerNorm",
                expected=f"the last dimensions to be {shape}",
                found=f"shape {tuple(x.shape)}",
                remedy="give it the dimensions it was converted with",
            )
        return self._finish(self._normalize(x.reshape(math.prod(x.shape[: -len(shape)]), math.prod(shape))).view(x.shape), shape)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, {self._constants()}"


class GroupNorm(_Norm):
    """y = (x − mean)/sqrt(var + eps)·weight[c] + bias[c] over each group of channels, in the order that `_Norm` gives.

    groups == C is instance norm.

    Args:
        groups: divides C.
        scale_x: s_x, an f32 value.
        eps: of torch.nn.GroupNorm, added to the variance of the real values.
        affine: weight and bias [C], or None.
        output: inverse = fl(1f/s_y) is needed.
    """

    def __init__(self, groups: int, scale_x: float, eps: float, affine: Affine, output: Output) -> None:
        super().__init__(scale_x, eps, affine, output)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """x u8 or s8 [N, C, ...] → y. Raises DataError for other dtypes and shapes."""
        check_bytes("GroupNorm", x)
        constant = self.weight if self.weight is not None else self.bias
        fits = x.ndim >= 2 and x.shape[1] % self.groups == 0
        if not fits or (constant is not None and constant.numel() != x.shape[1]):
            raise DataError(
                "GroupNorm",
                expected=f"[N, C, ...] with C {f'a multiple of {self.groups}' if constant is None else constant.numel()}",
                found=f"shape {tuple(x.shape)}",
                remedy="give it the number of channels it was converted with",
            )
        count = x.shape[1] // self.groups * math.prod(x.shape[2:])
        rows = x.reshape(x.shape[0] * self.groups, count)
        return self._finish(self._normalize(rows).view(x.shape), (x.shape[1], *(1 for _ in x.shape[2:])))

    def extra_repr(self) -> str:
        return f"groups={self.groups}, {self._constants()}"
