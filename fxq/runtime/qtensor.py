"""QTensor: the quantized tensor that PyTorch users know, on plain integer storage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fxq.errors import ConfigError, DataError
from fxq.graph.qtypes import QParams, QuantSpec, dequantize_tensor, qdtype, quantize_tensor

_FULL_RANGE = (QuantSpec("uint8", 0, 255), QuantSpec("int8", -128, 127))


class QTensor:
    """real = scale·(int_repr − zero_point), per tensor or per channel.

    Slices, permutations and views share storage with their source, as torch's do. Pickle, copy.deepcopy and torch.save work;
    torch.load reads it back with weights_only=False, or, without trusting the file, with

        with torch.serialization.safe_globals([*SAFE_GLOBALS]):
            q = torch.load(path, weights_only=True)

    Args:
        int_repr: integers, of the spec's dtype.
        qparams: per tensor, or per channel along qparams.spec.axis.

    Raises:
        DataError: the dtype or the number of channels doesn't fit.
    """

    def __init__(self, int_repr: Tensor, qparams: QParams) -> None:
        _check_fit(int_repr, qparams)
        axis = qparams.spec.axis
        if axis is not None and axis < 0:
            qparams = replace(qparams, spec=replace(qparams.spec, axis=axis % int_repr.ndim))
        self._integers = int_repr
        self._qparams = qparams

    @classmethod
    def from_float(cls, x: Tensor, qparams: QParams) -> QTensor:
        """q = clip(rint(fl(x·fl(1f/s))) + z) of an f32 tensor."""
        _check_channels(x, qparams)
        return cls(quantize_tensor(x.detach(), qparams), qparams)

    # values

    def int_repr(self) -> Tensor:
        """The integers themselves, not a copy."""
        return self._integers

    def dequantize(self) -> Tensor:
        """fl(scale·f32(q − zero_point)), f32."""
        return dequantize_tensor(self._integers, self._qparams)

    def equal(self, other: QTensor) -> bool:
        """Same integers standing for the same reals."""
        return self._qparams == other._qparams and torch.equal(self._integers, other._integers)

    def copy_(self, source: Tensor | QTensor) -> QTensor:
        """Takes the source's values onto this tensor's own grid: floats are quantized, another grid is requantized. Broadcasts."""
        self._integers.copy_(self._on_own_grid(source))
        return self

    def _on_own_grid(self, source: Tensor | QTensor) -> Tensor:
        if isinstance(source, QTensor) and source.shape == self.shape and source._qparams == self._qparams:
            return source._integers
        real = source.dequantize() if isinstance(source, QTensor) else source
        return quantize_tensor(real.detach().expand(self.shape), self._qparams)

    # quantization parameters

    @property
    def qparams(self) -> QParams:
        """Scale, zero point and the integers in use."""
        return self._qparams

    @property
    def _is_per_channel(self) -> bool:
        return self._qparams.spec.axis is not None

    def qscheme(self) -> torch.qscheme:
        """torch.per_tensor_affine or torch.per_channel_affine; zero points are kept in both, so symmetric is a case of affine."""
        return torch.per_channel_affine if self._is_per_channel else torch.per_tensor_affine

    def q_scale(self) -> float:
        """The scale of a per-tensor QTensor. Raises DataError per channel."""
        self._require(False, "q_scale()", "q_per_channel_scales()")
        return float(self._qparams.scale)

    def q_zero_point(self) -> int:
        """The zero point of a per-tensor QTensor. Raises DataError per channel."""
        self._require(False, "q_zero_point()", "q_per_channel_zero_points()")
        return int(self._qparams.zero_point)

    def q_per_channel_scales(self) -> Tensor:
        """f32 [channels]. Raises DataError per tensor."""
        self._require(True, "q_per_channel_scales()", "q_scale()")
        return self._qparams.scale

    def q_per_channel_zero_points(self) -> Tensor:
        """i32 [channels]. Raises DataError per tensor."""
        self._require(True, "q_per_channel_zero_points()", "q_zero_point()")
        return self._qparams.zero_point

    def q_per_channel_axis(self) -> int:
        """The channel axis, counted from 0. Raises DataError per tensor."""
        self._require(True, "q_per_channel_axis()", "q_scale() and q_zero_point()")
        axis = self._qparams.spec.axis
        assert axis is not None
        return axis

    def _require(self, per_channel: bool, method: str, other: str) -> None:
        if self._is_per_channel != per_channel:
            kinds = ("per tensor", "per channel")
            raise DataError(
                method, expected=f"a tensor quantized {kinds[per_channel]}", found=kinds[not per_channel], remedy=f"use {other}"
            )

    # layout

    @property
    def shape(self) -> torch.Size:
        """Lengths of the dimensions."""
        return self._integers.shape

    @property
    def dtype(self) -> torch.dtype:
        """torch.uint8, torch.int8 or torch.int32: what is stored."""
        return self._integers.dtype

    @property
    def device(self) -> torch.device:
        """Where the integers are."""
        return self._integers.device

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self._integers.ndim

    def size(self, dim: int | None = None) -> torch.Size | int:
        """All lengths, or that of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Number of dimensions."""
        return self._integers.ndim

    def numel(self) -> int:
        """Number of elements."""
        return self._integers.numel()

    def stride(self) -> tuple[int, ...]:
        """Of the integers, in elements."""
        return tuple(self._integers.stride())

    def is_contiguous(self, memory_format: torch.memory_format = torch.contiguous_format) -> bool:
        """Whether the integers are stored in that order without gaps."""
        return self._integers.is_contiguous(memory_format=memory_format)

    def __len__(self) -> int:
        return len(self._integers)

    def __iter__(self) -> Iterator[QTensor]:
        return (self[index] for index in range(len(self)))

    # same elements, another view of them

    def __getitem__(self, index: Any) -> QTensor:
        """Ints, slices, None, ... and one-dimensional index tensors or masks; channels keep their own parameters.

        Raises:
            DataError: per channel, an index after which the channels lie along no axis.
        """
        if not self._is_per_channel:
            return QTensor(self._integers[index], self._qparams)
        kept = _follow_axis(index, self.q_per_channel_axis(), self.ndim)
        scale, zero_point = self._qparams.scale[kept.selector], self._qparams.zero_point[kept.selector]
        return QTensor(self._integers[index], QParams(replace(self._qparams.spec, axis=kept.axis), scale, zero_point))

    def __setitem__(self, index: Any, source: Tensor | QTensor) -> None:
        self._integers[index] = self[index]._on_own_grid(source)

    def permute(self, *dims: int) -> QTensor:
        """Dimension i of the result is dims[i] of this; the channel axis moves along."""
        order = [dim % self.ndim for dim in dims]
        axis = self._qparams.spec.axis
        return self._with(self._integers.permute(order), None if axis is None else order.index(axis))

    def transpose(self, dim0: int, dim1: int) -> QTensor:
        """Two dimensions change places."""
        order = list(range(self.ndim))
        order[dim0], order[dim1] = order[dim1], order[dim0]
        return self.permute(*order)

    def reshape(self, *shape: int) -> QTensor:
        """Same elements in another shape; per channel only where the channel axis survives. Raises DataError otherwise."""
        return self._reshaped(self._integers.reshape(shape))

    def view(self, *shape: int) -> QTensor:
        """Like reshape, but never copies (torch's RuntimeError where that needs a copy)."""
        return self._reshaped(self._integers.view(shape))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> QTensor:
        """Dimensions start_dim to end_dim become one; per channel only where the channel axis survives. Raises DataError otherwise."""
        return self._reshaped(self._integers.flatten(start_dim, end_dim))

    def _reshaped(self, integers: Tensor) -> QTensor:
        axis = self._qparams.spec.axis
        return self._with(integers, None if axis is None else _surviving_axis(self.shape, axis, integers.shape))

    def _with(self, integers: Tensor, axis: int | None) -> QTensor:
        return QTensor(integers, replace(self._qparams, spec=replace(self._qparams.spec, axis=axis)))

    # copies

    def contiguous(self, memory_format: torch.memory_format = torch.contiguous_format) -> QTensor:
        """Itself where it is stored in that order, a copy otherwise."""
        return self._with(self._integers.contiguous(memory_format=memory_format), self._qparams.spec.axis)

    def clone(self) -> QTensor:
        """A copy with its own integers."""
        return self._with(self._integers.clone(), self._qparams.spec.axis)

    def detach(self) -> QTensor:
        """Integers have no gradient: a view of itself."""
        return self._with(self._integers.detach(), self._qparams.spec.axis)

    def to(self, device: torch.device | str) -> QTensor:
        """On another device, parameters included. For another type there are dequantize() and int_repr()."""
        moved = replace(self._qparams, scale=self._qparams.scale.to(device), zero_point=self._qparams.zero_point.to(device))
        return QTensor(self._integers.to(device), moved)

    def __repr__(self) -> str:
        """The real values, as torch prints them, and how they are stored."""
        values = str(self.dequantize())
        body = values.removeprefix("tensor").removesuffix(")").replace("\n", "\n ")
        parts = [f"size={tuple(self.shape)}", f"dtype={self.dtype}", f"quantization_scheme={self.qscheme()}"]
        scale, zero_point = self._qparams.scale.tolist(), self._qparams.zero_point.tolist()
        if self._is_per_channel:
            parts.append(f"axis={self.q_per_channel_axis()}")
        return f"QTensor{body}, {', '.join(parts)}, scale={scale}, zero_point={zero_point})"


# what torch.serialization.safe_globals needs to read a QTensor with weights_only=True
SAFE_GLOBALS = (QTensor, QParams, QuantSpec)


def quantize_per_tensor(x: Tensor, scale: float, zero_point: int, dtype: object) -> QTensor:
    """q = clip(rint(fl(x·fl(1f/scale))) + zero_point) with all integers of the dtype.

    Args:
        x: f32 of any shape.
        scale: positive.
        zero_point: inside the dtype's range.
        dtype: torch.uint8 or torch.int8; torch.quint8 and torch.qint8 mean the same.

    Raises:
        ConfigError: any of these doesn't hold.
    """
    return QTensor.from_float(x, _checked(QParams.per_tensor(scale, zero_point, _full_range(dtype))))


def quantize_per_channel(x: Tensor, scales: Tensor, zero_points: Tensor, axis: int, dtype: object) -> QTensor:
    """q[.., c, ..] = clip(rint(fl(x·fl(1f/scales[c]))) + zero_points[c]), c along axis.

    Args:
        x: f32.
        scales, zero_points: [x.shape[axis]].
        axis, dtype: as for quantize_per_tensor.

    Raises:
        ConfigError: a scale isn't positive, or a zero point is outside the dtype's range.
        DataError: not one scale per channel.
    """
    spec = replace(_full_range(dtype), axis=axis)
    return QTensor.from_float(x, _checked(QParams(spec, scales.to(torch.float32), zero_points.to(torch.int32))))


@dataclass(frozen=True)
class _Kept:
    """The channel axis after indexing (None: one channel is left, without an axis), and the index applied to the channels."""

    axis: int | None
    selector: Any


def _follow_axis(index: Any, axis: int, rank: int) -> _Kept:
    dim, position = 0, 0
    for item in _explicit(index if isinstance(index, tuple) else (index,), rank):
        if item is not None and dim == axis:
            return _Kept(None if _is_int(item) else position, item)
        dim += item is not None
        position += item is None or not _is_int(item)
    return _Kept(position + axis - dim, slice(None))


def _explicit(items: tuple[Any, ...], rank: int) -> list[Any]:
    """The index with ... written out. Raises DataError for index tensors and masks that mix dimensions."""
    places = [place for place, item in enumerate(items) if item is Ellipsis]
    arrays = [item for item in items if not (item is None or item is Ellipsis or isinstance(item, slice) or _is_int(item))]
    if len(places) > 1 or len(arrays) > 1 or any(torch.as_tensor(item).ndim != 1 for item in arrays):
        raise DataError(
            "QTensor per channel",
            expected="an index of ints, slices, None, ... and at most one one-dimensional index tensor or mask",
            found=repr(items),
            remedy="index int_repr() or dequantize() instead",
        )
    if not places:
        return list(items)
    missing = rank - sum(item is not None and item is not Ellipsis for item in items)
    return [*items[: places[0]], *[slice(None)] * missing, *items[places[0] + 1 :]]


def _is_int(item: Any) -> bool:
    """Whether an index item removes its dimension."""
    if isinstance(item, Tensor):
        return item.ndim == 0 and item.dtype != torch.bool
    return hasattr(item, "__index__") and not isinstance(item, bool)


def _surviving_axis(old: Sequence[int], axis: int, new: Sequence[int]) -> int:
    """The dimension of the new shape with as many elements before it, in it and after it as the old channel axis."""
    before, after = math.prod(old[:axis]), math.prod(old[axis + 1 :])
    for place, length in enumerate(new):
        if length == old[axis] and math.prod(new[:place]) == before and math.prod(new[place + 1 :]) == after:
            return place
    raise DataError(
        "QTensor per channel",
        expected=f"a shape that keeps the {old[axis]} channels of axis {axis} as a dimension",
        found=f"{tuple(old)} to {tuple(new)}",
        remedy="reshape dequantize(), or quantize per tensor",
    )


def _full_range(dtype: object) -> QuantSpec:
    for spec in _FULL_RANGE:
        if spec.dtype == qdtype(dtype):
            return spec
    raise ConfigError("dtype", expected="an 8-bit dtype", found=repr(dtype), remedy="use torch.uint8 or torch.int8")


def _checked(qparams: QParams) -> QParams:
    low, high = qparams.spec.qmin, qparams.spec.qmax
    inside = bool(((qparams.zero_point >= low) & (qparams.zero_point <= high)).all())
    if not (qparams.is_finite and inside):
        raise ConfigError(
            "qparams",
            expected=f"positive finite scales and zero points in [{low}, {high}]",
            found=f"scale {qparams.scale.tolist()}, zero_point {qparams.zero_point.tolist()}",
            remedy="choose them with fxq.graph.qtypes.choose_qparams",
        )
    return qparams


def _check_fit(int_repr: Tensor, qparams: QParams) -> None:
    if int_repr.dtype != qparams.spec.torch_dtype:
        raise DataError(
            "QTensor",
            expected=f"integers of dtype {qparams.spec.torch_dtype}",
            found=str(int_repr.dtype),
            remedy="use QTensor.from_float for real values",
        )
    _check_channels(int_repr, qparams)


def _check_channels(x: Tensor, qparams: QParams) -> None:
    axis, channels = qparams.spec.axis, tuple(qparams.scale.shape)
    expected = () if axis is None else (x.shape[axis],) if -x.ndim <= axis < x.ndim else None
    if expected != channels or qparams.zero_point.shape != qparams.scale.shape:
        raise DataError(
            "QTensor",
            expected="one scale and zero point" if axis is None else f"one scale and zero point for each index of axis {axis}",
            found=f"shape {tuple(x.shape)} with scales {channels} and zero points {tuple(qparams.zero_point.shape)}",
            remedy="give as many as there are channels, or none of them an axis",
        )
