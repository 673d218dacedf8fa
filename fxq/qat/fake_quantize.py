"""FakeQuantize: a module that rounds a tensor to the values that its int8 form can have, and lets gradients through."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fxq.errors import CalibrationError
from fxq.graph.qtypes import QParams, along, choose_qparams
from fxq.observers import Observer
from fxq.observers.distribution import Distribution
from fxq.qat.distributed import over_all_ranks

# the remedy where training has made values NaN
DIVERGED = "a loss that has diverged makes weights NaN: lower the learning rate or clip gradients, and go on from an earlier checkpoint"


def fake_quantize(x: Tensor, qparams: QParams) -> Tensor:
    """x' = fl(s · f32(clip(rint(fl(x · inv)) + z) − z)), inv = 1f / s: dequantize(quantize(x)), bit for bit; NaN stays NaN.

    The gradient is 1 where rint(x · inv) + z is in [qmin, qmax], and 0 outside: the straight-through estimator (Bengio et al.
    2013, arXiv:1308.3432).

    Args:
        x: any shape and floating dtype; computed in f32.

    Returns:
        x's shape and dtype.
    """
    made: Tensor = _Rounding.apply(x, qparams)  # type: ignore[no-untyped-call]
    return made


class _Rounding(torch.autograd.Function):
    """fake_quantize. Plain ops in place: torch's fake_quantize_per_tensor_affine has the same bits and takes nine times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, qparams: QParams) -> Tensor:
        steps = _steps(x, qparams)
        ctx.clips = qparams.spec.axis is None or not _are_inside(steps, qparams)
        if ctx.clips:
            ctx.save_for_backward(x)
            ctx.qparams = qparams
        return _values(_clip(steps, qparams) if ctx.clips else steps, qparams).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if not ctx.clips:
            return gradient, None
        (x,) = ctx.saved_tensors
        return passed_on(gradient, x, ctx.qparams), None


def rounded(x: Tensor, qparams: QParams) -> Tensor:
    """x' of fake_quantize, without a gradient. With r = rint(fl(x · inv)): clip(r + z) − z = clip(r, qmin − z, qmax − z)."""
    return _values(_clip(_steps(x, qparams), qparams), qparams).to(x.dtype)


def _steps(x: Tensor, qparams: QParams) -> Tensor:
    """rint(fl(x · inv)), f32."""
    return (x.to(torch.float32) * along(qparams.scale.reciprocal(), qparams.spec.axis, x.ndim)).round_()


def _clip(steps: Tensor, qparams: QParams) -> Tensor:
    return steps.clamp_(*_bounds(qparams, steps.ndim))


def _values(steps: Tensor, qparams: QParams) -> Tensor:
    return steps.mul_(along(qparams.scale, qparams.spec.axis, steps.ndim))


def _are_inside(steps: Tensor, qparams: QParams) -> bool:
    """Whether nothing is clipped, as with weights whose ranges are those of now: then there is no mask to make and to apply."""
    low, high = _bounds(qparams, steps.ndim)
    if not isinstance(low, int) or not steps.numel():
        return False
    least, most = torch.aminmax(steps)
    return bool(least >= low) and bool(most <= high)


def passed_on(gradient: Tensor, x: Tensor, qparams: QParams) -> Tensor:
    """The gradient where x is inside of the range, 0 elsewhere."""
    low, high = _bounds(qparams, x.ndim)
    if isinstance(low, int) and qparams.scale.ndim == 0 and x.dtype == torch.float32:
        first_outside = _first_outside(low, high, float(qparams.scale.reciprocal()))
        inside: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, *first_outside)
        return inside
    steps = _steps(x, qparams)
    passed: Tensor = gradient * ((steps >= low) & (steps <= high))
    return passed


def _bounds(qparams: QParams, rank: int) -> tuple[Any, Any]:
    """qmin − z and qmax − z: numbers where one pair is for all channels."""
    spec, zero_point = qparams.spec, qparams.zero_point
    if zero_point.ndim and not spec.symmetric:
        zero_point = along(zero_point, spec.axis, rank).to(torch.float32)
        return spec.qmin - zero_point, spec.qmax - zero_point
    z = int(zero_point.flatten()[0]) if zero_point.ndim else int(zero_point)
    return spec.qmin - z, spec.qmax - z


@np.errstate(over="ignore", invalid="ignore")  # beyond the largest f32 nothing is outside
def _first_outside(low: int, high: int, inverse: float) -> tuple[float, float]:
    """The largest f32 x below and the smallest above the range, in which low ≤ rint(fl(x · inv)) ≤ high.

    They are within a few units in the last place of (low − ½) / inv and (high + ½) / inv.
    """
    inv = np.float32(inverse)
    limits = np.array([[low - 0.5], [high + 0.5]], np.float32) / inv
    near = (limits.view(np.int32) + np.arange(-4, 5, dtype=np.int32)).view(np.float32)
    steps = np.rint(near * inv)
    return float(near[0][steps[0] < low].max(initial=-np.inf)), float(near[1][steps[1] > high].min(initial=np.inf))


class FakeQuantize(Observer):
    """x → dequantize(quantize(x)) with the qparams of what the observer inside has seen; x itself before it has seen anything.

    It observes in training mode only, so that an evaluation in between changes nothing. A dynamic spec takes its qparams from
    each batch; with an axis, from each of its rows: all dimensions but the last. With torch.distributed, the observer sees the
    batches of all ranks, and every rank gets the same qparams; those of a dynamic spec are each rank's own.

    Attributes:
        observer: says which qparams.
        forgets: every batch is observed on its own, in evaluation too: for weights, which are what they are now.
        fake_quant_enabled: False: forward observes, and gives x back.
        scale, zero_point: buffers: the qparams in use.
        row_dims: of how many of the last dimensions a row is, where rows have qparams of their own.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, observer: Observer, *, forgets: bool = False) -> None:
        """The observer's spec is the spec."""
        super().__init__(observer.spec)
        self.observer = observer
        self.forgets = forgets
        self.fake_quant_enabled = True
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))
        self.row_dims = 1
        self._unused = dict(observer.named_buffers())

    def forward(self, x: Tensor) -> Tensor:
        """x → x', f32, bf16 or f16 of any shape."""
        if self.spec.dynamic:
            return self._rounded_as_it_arrives(x)
        if self.enabled and (self.training or self.forgets):
            self.observe(x)
        return self.rounded_by(x) if self.rounds else x

    def rounded_by(self, x: Tensor) -> Tensor:
        """x' with the qparams in use."""
        return fake_quantize(x, QParams(self.spec, self.scale, self.zero_point))

    def record(self, values: Tensor) -> None:
        """The observer takes in the batch, of all ranks, and says the qparams.

        Raises:
            CalibrationError: there are values that are not finite.
        """
        self.observer.name = self.name
        if self.forgets:
            for name, buffer in self._unused.items():
                setattr(self.observer, name, buffer)
        try:
            self.observer.take_in(values if self.forgets else over_all_ranks(self.observer, values))
        except CalibrationError as error:
            remedy = f"{error.remedy}; in training, {DIVERGED}"
            raise CalibrationError(error.where, expected=error.expected, found=error.found, remedy=remedy) from None
        self.take(self.observer.qparams())

    def take(self, found: QParams) -> None:
        """Uses these qparams from now on."""
        self.scale, self.zero_point = found.scale, found.zero_point

    @property
    def rounds(self) -> bool:
        """Whether forward rounds, now that it is on and has seen a range."""
        return self.fake_quant_enabled and self.batches > 0

    @property
    def follows_weights(self) -> bool:
        """Whether the qparams are those of the weights of now, whatever they were in the last step."""
        return self.forgets and self.enabled

    def qparams(self) -> QParams:
        """Those in use. Raises CalibrationError if no batch was seen."""
        self.check_seen()
        return QParams(self.spec, self.scale, self.zero_point)

    def distribution(self) -> Distribution | None:
        """That of the observer inside."""
        return self.observer.distribution()

    def check_seen(self) -> None:
        """Raises CalibrationError if no batch was seen, and nothing is known without one."""
        if self.batches == 0:
            raise CalibrationError(
                self.label,
                expected="at least one training step",
                found="a fake-quantize module that never saw data in training mode",
                remedy="run the prepared model in training mode, prepared.train(), on some batches before convert_fx",
            )

    def get_extra_state(self) -> Tensor:
        """What is switched on, u8 [2]: so that a checkpoint holds it."""
        return torch.tensor([self.enabled, self.fake_quant_enabled], dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """The inverse of get_extra_state."""
        self.enabled, self.fake_quant_enabled = map(bool, state.tolist())

    def _rounded_as_it_arrives(self, x: Tensor) -> Tensor:
        if self.enabled and self.training and x.numel():
            self.batches_seen = self.batches_seen + 1
        if not self.fake_quant_enabled or not x.numel():
            return x
        if self.spec.axis is None:
            return fake_quantize(x, self._qparams_of(x.reshape(-1), None))
        rows = x.reshape(-1, math.prod(x.shape[-self.row_dims :]))
        return fake_quantize(rows, self._qparams_of(rows, 1)).reshape(x.shape)

    def _qparams_of(self, values: Tensor, dim: int | None) -> QParams:
        """Those of these values; with a dimension, of each row along it. Values that are not finite: an error in training, else NaN."""
        low, high = torch.aminmax(values.detach().to(torch.float32), dim=dim)
        finite = torch.isfinite(low) & torch.isfinite(high)
        if self.training and not bool(finite.all()):
            raise CalibrationError(
                self.label, expected="finite values", found="NaN or infinity", remedy=f"look for an overflow; {DIVERGED}"
            )
        found = choose_qparams(low.where(finite, 0.0), high.where(finite, 0.0), replace(self.spec, axis=None if dim is None else 0))
        return replace(found, scale=found.scale.where(finite, torch.nan))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """scale and zero_point take the shape in which they were saved: [channels] once a batch was seen."""
        for name in ("scale", "zero_point"):
            saved, now = state_dict.get(prefix + name), getattr(self, name)
            if saved is not None and saved.shape != now.shape and not isinstance(now, nn.Parameter):
                setattr(self, name, torch.empty_like(saved, device=now.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
