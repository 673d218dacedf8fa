"""Scales and zero points that are trained with the weights: LSQ and LSQ+."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from fxq.errors import CalibrationError, ConfigError
from fxq.graph.qtypes import QParams, QuantSpec, along
from fxq.observers import MinMaxObserver, MSEObserver, PerChannelMSEObserver
from fxq.qat.fake_quantize import DIVERGED, FakeQuantize, rounded
from fxq.qconfig_mapping import QConfig, get_default_qconfig

_BITS = range(2, 9)


class LearnedFakeQuantize(FakeQuantize):
    """x → dequantize(quantize(x)) with a scale, and for an affine spec a zero point, that are parameters.

    They start from observed ranges: those of the weights when the model is prepared; of the batches in training up to the first one
    that is rounded. Sources: LSQ, Esser et al. 2020 (arXiv:1902.08153); LSQ+, Bhalgat et al. 2020 (arXiv:2004.09576).

    Attributes:
        scale: f32 parameter, [] or [channels]; its value is used where it is at least spec.eps.
        zero_point: f32 parameter of that shape, rounded when it is used; a buffer of zeros for a symmetric spec.
    """

    def __init__(self, spec: QuantSpec | None = None) -> None:
        """Has learned nothing."""
        super().__init__(_first_observer(type(self).default_spec if spec is None else spec))
        scale, zero_point = self.scale, self.zero_point.to(torch.float32)
        del self.scale, self.zero_point
        self.scale = nn.Parameter(scale)
        if self.spec.symmetric:
            self.register_buffer("zero_point", zero_point)
        else:
            self.zero_point = nn.Parameter(zero_point)

    @property
    def follows_weights(self) -> bool:
        """Never: the scale has been learned."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """x → x'. Raises CalibrationError in training if what was learned is not finite."""
        if self.enabled and self.training and (self.batches == 0 or not self.fake_quant_enabled):
            self.observe(x)
        elif self.training:
            self.check_finite()
        return self.rounded_by(x) if self.rounds else x

    def rounded_by(self, x: Tensor) -> Tensor:
        """x' with the qparams in use; gradients go to x, scale and zero point."""
        # one example's elements, or one channel's weights: what the paper scales the gradient by
        count = x.numel() / (len(x) if self.spec.axis is None and not self.forgets else self.scale.numel())
        most = (self.spec.qmax - self.spec.qmin) / (2 if self.spec.symmetric else 1)
        made: Tensor = _LearnedRounding.apply(x, self.scale, self.zero_point, _Grid(self.spec, 1 / sqrt(count * most)))  # type: ignore[no-untyped-call]
        return made

    def qparams(self) -> QParams:
        """Those in use. Raises CalibrationError if no batch was seen, or what was learned is not finite."""
        self.check_seen()
        self.check_finite()
        return _used(self.scale.detach(), self.zero_point.detach(), self.spec)

    def check_finite(self) -> None:
        """Raises CalibrationError if a scale or zero point has become NaN or infinite."""
        for name, learned in (("scale", self.scale), ("zero point", self.zero_point)):
            if not bool(torch.isfinite(learned).all()):
                found = f"a learned {name} that is NaN or infinite"
                raise CalibrationError(self.label, expected=f"a finite {name}", found=found, remedy=DIVERGED)

    def take(self, found: QParams) -> None:
        """Starts from these, in place: an optimizer may have the parameters already."""
        for parameter, value in ((self.scale, found.scale), (self.zero_point, found.zero_point)):
            parameter.data = value.to(torch.float32, copy=True)


def _first_observer(spec: QuantSpec) -> MinMaxObserver | MSEObserver:
    """Weights start from the range of least error: with few bits, min and max are far from it."""
    if spec.axis is not None:
        return PerChannelMSEObserver(spec)
    return MSEObserver(spec) if spec.symmetric else MinMaxObserver(spec)


def _used(scale: Tensor, zero_point: Tensor, spec: QuantSpec) -> QParams:
    return QParams(spec, scale.clamp(min=spec.eps), torch.round(zero_point.clamp(spec.qmin, spec.qmax)).to(torch.int32))


@dataclass(frozen=True)
class _Grid:
    """The integers, and what gradients of scale and zero point are multiplied by."""

    spec: QuantSpec
    factor: float


class _LearnedRounding(torch.autograd.Function):
    """x' = fake_quantize(x), v = x / s, q = rint(v) + z.

    dx'/dx = 1, dx'/ds = rint(v) − v, dx'/dz = 0 inside [qmin, qmax]; outside 0, clip(q) − z, −s. Sums over what a scale is for, times
    a factor.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, grid: _Grid) -> Tensor:
        qparams = _used(scale, zero_point, grid.spec)
        ctx.save_for_backward(x, qparams.scale, qparams.zero_point)
        ctx.grid = grid
        return rounded(x, qparams)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, zero_point = ctx.saved_tensors
        spec, factor = ctx.grid.spec, ctx.grid.factor
        s, z = (along(each, spec.axis, x.ndim) for each in (scale, zero_point))
        v = x.to(torch.float32) * (1.0 / s)
        q = torch.round(v) + z
        inside = (q >= spec.qmin) & (q <= spec.qmax)
        of_scale = gradient * torch.where(inside, torch.round(v) - v, q.clamp(spec.qmin, spec.qmax) - z) * factor
        of_zero_point = gradient * torch.where(inside, 0.0, -s) * factor
        axes = [axis for axis in range(x.ndim) if spec.axis is None or axis != spec.axis % x.ndim]
        ds, dz = (each.sum(axes).reshape(scale.shape) for each in (of_scale, of_zero_point))
        return gradient * inside, ds, dz if ctx.needs_input_grad[2] else None, None


def get_lsq_qconfig(profile: str = "x86", weight_bits: int = 8) -> QConfig:
    """Learned scales for weights and activations, learned zero points for activations.

    Args:
        profile: "x86" or "qnnpack".
        weight_bits: 2 to 8: weights are −2^(bits − 1) + 1 .. 2^(bits − 1) − 1; they are stored as int8 all the same.

    Raises:
        ConfigError: there is no such profile, or weight_bits is out of range.
    """
    if weight_bits not in _BITS:
        raise ConfigError("weight_bits", expected="2 to 8", found=repr(weight_bits), remedy="use 8, or 4 with learned scales")
    default, most = get_default_qconfig(profile), 2 ** (weight_bits - 1) - 1
    return QConfig(
        LearnedFakeQuantize.with_args(spec=default.activation.spec),
        LearnedFakeQuantize.with_args(spec=replace(default.weight.spec, qmin=-most, qmax=most)),
    )
