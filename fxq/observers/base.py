"""Observer: a module that looks at a tensor, batch by batch, and then says how to quantize it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from fxq.errors import CalibrationError, ConfigError
from fxq.graph.qtypes import ACTIVATION, QParams, QuantSpec
from fxq.observers.distribution import Distribution
from fxq.observers.factory import ObserverFactory


@dataclass(frozen=True, eq=False)
class Extent:
    """The smallest and the largest value of a batch: f32, shape [] per tensor or [channels] per channel, finite."""

    low: Tensor
    high: Tensor


class Observer(nn.Module):
    """forward(x) = x, and what x looked like is remembered until `qparams()` is asked for.

    A subclass writes `record` (one batch), `qparams`, and `absorb` (the statistics of another observer) and keeps
    every running statistic in a buffer, so that state_dict, pickle and deepcopy carry it. Buffers are replaced, never
    changed in place.

    Attributes:
        spec: what is asked of the tensor.
        name: the tensor observed, for messages; the compiler sets it.
        enabled: whether forward observes.
        default_spec: the spec of an observer that is given none.
        mergeable: whether `merge` gives what one pass over all batches would give.
    """

    default_spec: ClassVar[QuantSpec] = ACTIVATION
    mergeable: ClassVar[bool] = True

    batches_seen: Tensor

    def __init__(self, spec: QuantSpec | None = None) -> None:
        """Has seen nothing. Raises ConfigError for a spec that the class cannot serve."""
        super().__init__()
        self.spec = type(self).default_spec if spec is None else spec
        self.check_spec(self.spec)
        self.name = ""
        self.enabled = True
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.int64))

    @classmethod
    def with_args(cls, **kwargs: Any) -> ObserverFactory:
        """A factory of observers with these arguments: torch.ao's (dtype, qscheme, quant_min, ...), the class's own, or spec=.

        Raises ConfigError for an argument that this class does not have, or a spec that it cannot serve.
        """
        return ObserverFactory.of(cls, kwargs)

    @classmethod
    def check_spec(cls, spec: QuantSpec) -> None:
        """Raises ConfigError for a spec that this class cannot serve. Every spec is fine here."""

    def record(self, values: Tensor) -> None:
        """Takes in one batch: f32, not empty, outside autograd. Raises before anything is changed."""
        raise NotImplementedError(f"{type(self).__name__}.record")

    def qparams(self) -> QParams:
        """What the tensor is to be quantized with. Raises CalibrationError if no data was seen."""
        raise NotImplementedError(f"{type(self).__name__}.qparams")

    def absorb(self, other: Any) -> None:
        """Takes in the statistics of an observer of the same class and settings that has seen data."""
        raise NotImplementedError(f"{type(self).__name__}.absorb")

    def settings(self) -> tuple[object, ...]:
        """What two observers must have in common to be merged; a subclass adds its own arguments."""
        return (type(self), self.spec)

    def distribution(self) -> Distribution | None:
        """What was seen, for a picture; None where nothing was, or where no single range tells it."""
        return None

    @property
    def batches(self) -> int:
        """How many batches were seen; empty ones don't count."""
        return int(self.batches_seen)

    @property
    def label(self) -> str:
        """How messages call this observer."""
        return f"tensor {self.name!r}" if self.name else type(self).__name__

    def enable_observer(self) -> None:
        """From now on forward observes."""
        self.enabled = True

    def disable_observer(self) -> None:
        """From now on forward only passes its input on."""
        self.enabled = False

    def forward(self, x: Tensor) -> Tensor:
        """x → x, the same object; observed if enabled."""
        if self.enabled:
            self.observe(x)
        return x

    def observe(self, x: Tensor) -> None:
        """Takes in one batch. An empty one is ignored.

        Args:
            x: any shape and floating dtype; observed in float32, outside autograd.

        Raises:
            CalibrationError: not floating, or with a NaN or infinity; nothing of the batch is recorded then.
        """
        if x.numel() == 0:
            return
        # statistics made inside the user's inference_mode could not be loaded into or trained with outside of it
        with torch.inference_mode(False), torch.no_grad():
            self.take_in(self.as_float32(x))

    def take_in(self, values: Tensor) -> None:
        """Records a batch as it is: f32, not empty, outside autograd; and counts it."""
        self.record(values)
        self.batches_seen = self.batches_seen + 1

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """(scale, zero_point) of `qparams()`, under torch.ao's name."""
        found = self.qparams()
        return found.scale, found.zero_point

    def merge(self, other: Observer) -> None:
        """Afterwards self is as if it had also seen other's batches: the same bits, whatever the split and the order.

        Raises:
            ConfigError: other has another class or other settings, or this class depends on the order of the batches.
            CalibrationError: the two saw tensors with different numbers of channels.
        """
        self._check_mergeable(other)
        if other.batches == 0:
            return
        with torch.inference_mode(False), torch.no_grad():
            self.absorb(other)
            self.batches_seen = self.batches_seen + other.batches_seen

    def measure(self, values: Tensor) -> Extent:
        """min and max of a batch, per tensor or per channel. Raises CalibrationError for NaN and infinity."""
        if self.spec.axis is None:
            low, high = torch.aminmax(flatten(values))
        else:
            rows = self._channels_first(values, self.spec.axis)
            low, high = rows.amin(1), rows.amax(1)  # in a seventh of the time that aminmax takes by row
        # all of them hand NaN on, and an infinity is an extreme: no further pass over the data is needed
        if not (np.isfinite(low.cpu().numpy()).all() and np.isfinite(high.cpu().numpy()).all()):
            raise CalibrationError(
                f"{self.label}, batch {self.batches + 1}",
                expected="finite values",
                found="NaN" if bool(low.isnan().any()) else f"values from {float(low.min())} to {float(high.max())}, as float32",
                remedy="look for the division, log or overflow in the model or in the data of this batch; it was not recorded",
            )
        return Extent(low, high)

    def as_float32(self, x: Tensor) -> Tensor:
        """What is recorded of x. Raises CalibrationError for a dtype that is not floating."""
        if not x.is_floating_point():
            raise CalibrationError(
                f"{self.label}, batch {self.batches + 1}",
                expected="a tensor of a floating dtype",
                found=str(x.dtype),
                remedy="leave the layer that makes this tensor out with qconfig None; integers need no quantization",
            )
        return x.detach().to(torch.float32)

    def check_seen(self) -> None:
        """Raises CalibrationError if no batch was seen."""
        if self.batches == 0:
            raise CalibrationError(
                self.label,
                expected="at least one calibration batch",
                found=f"{type(self).__name__} never saw data",
                remedy="run the prepared model on a few representative batches, on a path that computes this tensor",
            )

    def extra_repr(self) -> str:
        """For print(model)."""
        return f"{self.spec}, batches={self.batches}" + (f", name={self.name!r}" if self.name else "")

    def _channels_first(self, values: Tensor, axis: int) -> Tensor:
        if not -values.ndim <= axis < values.ndim:
            raise CalibrationError(
                f"{self.label}, batch {self.batches + 1}",
                expected=f"a tensor with a channel axis {axis}",
                found=f"shape {tuple(values.shape)}",
                remedy="set ch_axis to the tensor's channel axis, or use a per-tensor observer",
            )
        return values.movedim(axis, 0).reshape(values.shape[axis], -1)

    def _check_mergeable(self, other: Observer) -> None:
        if not self.mergeable:
            raise ConfigError(
                self.label,
                expected="an observer whose result does not depend on the order of the batches",
                found=f"{type(self).__name__}: a moving average depends on that order",
                remedy="use MinMaxObserver or HistogramObserver to merge shards, or calibrate in one process",
            )
        if self.settings() != other.settings():
            raise ConfigError(
                self.label,
                expected=f"an observer to merge with the same class and settings: {self!r}",
                found=repr(other),
                remedy="make both with the same factory",
            )


def flatten(values: Tensor) -> Tensor:
    """The same elements in one dimension, in the order of memory: no copy for channels_last or a transpose."""
    if values.is_contiguous():
        return values.view(-1)
    by_stride = sorted(range(values.ndim), key=values.stride, reverse=True)
    return values.permute(by_stride).reshape(-1)
