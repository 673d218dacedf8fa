"""Resizing 8-bit images: copies, and 11-bit fixed-point interpolation. qparams are unchanged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.errors import ConfigError, DataError
from fxq.runtime.integer.module import IntegerOp, check_bytes

BITS = 11  # two weights of 11 bits and a byte fit in 31


@dataclass(frozen=True)
class ResizeTarget:
    """How large the result is: a size, or factors, as torch.nn.functional.interpolate takes them; exactly one of the two.

    Attributes:
        size: one length for every spatial dimension, or one each.
        scale_factor: one factor for every spatial dimension, or one each; the length is ⌊length·factor⌋, in f64.
        recompute: interpolate's recompute_scale_factor: take the ratio of the lengths and not the factor.
    """

    size: int | tuple[int, ...] | None = None
    scale_factor: float | tuple[float, ...] | None = None
    recompute: bool = False

    def __post_init__(self) -> None:
        if (self.size is None) == (self.scale_factor is None):
            raise ConfigError(
                "resize", expected="either size or scale_factor", found=str(self), remedy="give what torch's interpolate was given"
            )

    def axes(self, x: Tensor) -> list[ResizedAxis]:
        """One for each spatial dimension of x [N, C, *spatial]. Raises DataError where the number doesn't fit or a length is 0."""
        rank = x.ndim - 2
        given = self.size if self.size is not None else self.scale_factor
        each = given if isinstance(given, tuple) else (given,) * max(0, rank)
        if rank < 1 or len(each) != rank or 0 in x.shape[2:]:
            raise DataError(
                "resize",
                expected="[N, C, *spatial] with one size or factor per spatial dimension, none of them empty",
                found=f"shape {tuple(x.shape)} for {self}",
                remedy="give it the number of dimensions it was converted with",
            )
        return [self._axis(length, wanted) for length, wanted in zip(x.shape[2:], each, strict=True)]

    def _axis(self, length: int, wanted: float | None) -> ResizedAxis:
        assert wanted is not None
        if self.size is not None:
            return ResizedAxis(length, int(wanted), None)
        count = math.floor(length * wanted)
        if count < 1:
            raise DataError(
                "resize", expected="at least one element", found=f"length {length}·{wanted}", remedy="give a larger input or factor"
            )
        return ResizedAxis(length, count, None if self.recompute else 1.0 / wanted)

    def __str__(self) -> str:
        if self.size is not None:
            return f"size={self.size}"
        return f"scale_factor={self.scale_factor}" + (", recompute=True" if self.recompute else "")


@dataclass(frozen=True)
class ResizedAxis:
    """length elements become count. step: elements of the input per element of the output where a factor gave it."""

    length: int
    count: int
    step: float | None

    @property
    def ratio(self) -> float:
        """1/factor or length/count, in f64."""
        return self.length / self.count if self.step is None else self.step


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Of each place of an interpolated dimension: the elements around it, i64 [count], and the weight of the latter, i32 [count]."""

    before: Tensor
    after: Tensor
    weight: Tensor


class _Resize(IntegerOp):
    """What resizing has in common.

    Args:
        target: the size of the result; None where each call gives it.
    """

    def __init__(self, target: ResizeTarget | None) -> None:
        super().__init__()
        self.target = target

    def axes(self, x: Tensor, size: int | Sequence[int] | None) -> list[ResizedAxis]:
        """Of each spatial dimension. Raises DataError where they don't fit x, or the size is given by nobody."""
        if self.target is not None:
            return self.target.axes(x)
        if size is None:
            raise DataError("resize", expected="a size", found="None", remedy="call it with the size that the graph computes")
        return ResizeTarget(size if isinstance(size, int) else tuple(size)).axes(x)


class Nearest(_Resize):
    """y[o] = x[i], copied: i = min(⌊fl(o·r)⌋, L − 1), or min(⌊fl((o + ½)·r)⌋, L − 1) with `exact`; r = fl(1/factor) or fl(L/O), all f32.

    As interpolate's modes "nearest" and "nearest-exact" on f32 images, in any number of dimensions. One difference: where a factor that
    isn't 1 or 2 gives O = L or O = 2L, torch (2.13) copies x[o] or x[o // 2] in some sizes and layouts of "nearest", and follows the
    formula in others; here it is always the formula.
    """

    def __init__(self, target: ResizeTarget | None, exact: bool = False) -> None:
        super().__init__(target)
        self.exact = exact

    def forward(self, x: Tensor, size: int | Sequence[int] | None = None) -> Tensor:
        """x u8 or s8 [N, C, *spatial] → the same dtype. Raises DataError for other dtypes and shapes."""
        check_bytes("Nearest", x)
        for dim, axis in enumerate(self.axes(x, size), 2):
            if axis.count != axis.length or axis.ratio != 1:
                x = x.index_select(dim, self.sources(axis).to(x.device))
        return x

    def sources(self, axis: ResizedAxis) -> Tensor:
        """Index of the element that each place copies, i64 [count]."""
        ratio = torch.tensor(axis.ratio, dtype=torch.float32)
        places = torch.arange(axis.count, dtype=torch.float32)
        return ((places + 0.5 if self.exact else places) * ratio).floor().to(torch.int64).clamp(max=axis.length - 1)

    def extra_repr(self) -> str:
        return f"{self.target or 'size of each call'}, exact={self.exact}"


class Bilinear(_Resize):
    """y = (Σ w·x + half) >> 11·rank in int32, w products of 11-bit weights that sum to 2^11: interpolate's "linear" and "bilinear".

    Along each axis, in f64, output o lies at c = max((o + ½)·r − ½, 0), r = 1/factor or L/O, but at o where O = L; with align_corners at
    c = o·r, r = (L − 1)/(O − 1).
    i = min(⌊c⌋, L − 1), λ = min(rint((c − i)·2^11), 2^11), and the weights are 2^11 − λ of x[i] and λ of x[min(i + 1, L − 1)].
    Weights sum to a power of two and halves go up, so that shifting every integer shifts the result: the zero point doesn't matter.
    Source of the arithmetic: XNNPACK's ibilinear for 8-bit data.

    Args:
        target: the size of the result; None where each call gives it.
        align_corners: the outermost elements keep their places.
    """

    def __init__(self, target: ResizeTarget | None, align_corners: bool = False) -> None:
        super().__init__(target)
        self.align_corners = align_corners

    def forward(self, x: Tensor, size: int | Sequence[int] | None = None) -> Tensor:
        """x u8 or s8 [N, C, L] or [N, C, H, W] → the same dtype. Raises DataError for other dtypes and shapes."""
        check_bytes("Bilinear", x)
        if x.ndim not in (3, 4):
            raise DataError(
                "Bilinear",
                expected="[N, C, L] or [N, C, H, W]",
                found=f"shape {tuple(x.shape)}",
                remedy="give it one or two spatial dimensions",
            )
        axes = self.axes(x, size)
        acc = x.to(torch.int32)
        for dim in reversed(range(2, x.ndim)):
            acc = self._interpolate(acc, dim, axes[dim - 2])
        bits = BITS * len(axes)
        return acc.add_(1 << (bits - 1)).bitwise_right_shift_(bits).to(x.dtype)

    def _interpolate(self, x: Tensor, dim: int, axis: ResizedAxis) -> Tensor:
        """2^11 times the values at `count` places along one dimension, i32: x[i]·2^11 + (x[i + 1] − x[i])·λ."""
        places = self.neighbours(axis)
        before, after = (x.index_select(dim, index.to(x.device)) for index in (places.before, places.after))
        shape = [-1 if axis_of == dim else 1 for axis_of in range(x.ndim)]
        rise = after.sub_(before).mul_(places.weight.to(x.device).view(shape))
        return before.bitwise_left_shift_(BITS).add_(rise)

    def neighbours(self, axis: ResizedAxis) -> Neighbours:
        """What each place along one dimension lies between."""
        places = self._places(axis)
        first = places.floor().clamp(max=axis.length - 1)
        weight = ((places - first) * 2**BITS).round().clamp(max=2**BITS)
        return Neighbours(first.to(torch.int64), (first + 1).clamp(max=axis.length - 1).to(torch.int64), weight.to(torch.int32))

    def _places(self, axis: ResizedAxis) -> Tensor:
        """c, f64 [count]."""
        places = torch.arange(axis.count, dtype=torch.float64)
        if axis.count == axis.length:
            return places
        if self.align_corners:
            return places * ((axis.length - 1) / (axis.count - 1) if axis.count > 1 else 0.0)
        return ((places + 0.5) * axis.ratio - 0.5).clamp(min=0.0)

    def extra_repr(self) -> str:
        return f"{self.target or 'size of each call'}, align_corners={self.align_corners}"
