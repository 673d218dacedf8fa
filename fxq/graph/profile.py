"""BackendProfile: what a family of CPUs' kernels accept, and the arithmetic they share. Profiles are data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fxq.graph.qtypes import QDType, QuantSpec
from fxq.graph.reasons import Reason, Why


@dataclass(frozen=True)
class Accepted:
    """The QuantSpecs that a kernel takes for one kind of operand.

    Attributes:
        dtype: storage type.
        symmetric: True: only symmetric; False: symmetric or affine.
        axes: channel axes; None stands for per tensor.
        qmin, qmax: the integers in use lie between these; None: all of the dtype's.
        eps: the smallest scale of a spec is at least this; None: any.
    """

    dtype: QDType
    symmetric: bool
    axes: tuple[int | None, ...] = (None,)
    qmin: int | None = None
    qmax: int | None = None
    eps: float | None = None

    def fits(self, spec: QuantSpec) -> bool:
        """Whether a kernel takes an operand with this spec."""
        same_kind = spec.dtype == self.dtype and spec.axis in self.axes and (spec.symmetric or not self.symmetric)
        return same_kind and self._bounds(spec)

    def _bounds(self, spec: QuantSpec) -> bool:
        above = (self.qmin is None or spec.qmin >= self.qmin) and (self.eps is None or spec.eps >= self.eps)
        return above and (self.qmax is None or spec.qmax <= self.qmax)

    def __str__(self) -> str:
        where = " or ".join("per tensor" if axis is None else f"per channel {axis}" for axis in self.axes)
        bounds = {"qmin": self.qmin, "qmax": self.qmax, "eps": self.eps}
        given = "".join(
            f", {name} {'at most' if name == 'qmax' else 'at least'} {value:g}" for name, value in bounds.items() if value is not None
        )
        return f"{self.dtype} {'symmetric ' if self.symmetric else ''}{where}{given}"


# by tensor, or by row: whatever the axis, a row is all but the last dimension
DYNAMIC_ACTIVATIONS = (Accepted("uint8", symmetric=False, axes=(None, 0), qmin=0, qmax=255),)


@dataclass(frozen=True)
class BackendProfile:
    """One row of PROFILES (fxq/lowering/profiles.py).

    Attributes:
        name: "x86" or "qnnpack".
        activations, weights: what is accepted.
        ops: canonical names of the ops that have an integer kernel.
        dynamic: canonical names of ops, and qualified names of modules that are called whole, which can quantize what they read
            as it arrives, to uint8 0..255, all at once or row by row.
        weight_only: the same of those whose weights can be stored in few bits, while everything else stays float.
        multiplier_bits: significant bits of a requantization multiplier, 22 or 24.
        fixed_point_add: add of two tensors in QNNPACK's fixed-point arithmetic.
        balanced_weights: what rounding errors of calibrated weights do to each output channel cancels; else each is the nearest integer.
    """

    name: str
    activations: tuple[Accepted, ...]
    weights: tuple[Accepted, ...]
    ops: frozenset[str]
    multiplier_bits: Literal[22, 24]
    fixed_point_add: bool
    dynamic: frozenset[str] = frozenset()
    weight_only: frozenset[str] = frozenset()
    balanced_weights: bool = False

    def accepts(self, node: str, op: str, activation: QuantSpec, weight: QuantSpec | None) -> Reason | None:
        """None where the profile has a kernel for the op with these specs, else why not.

        Args:
            node: name of the node, for the Reason.
            op: canonical name.
            activation: what is asked of inputs and output.
            weight: what is asked of the weight; None for an op without one.
        """
        if op not in self.ops:
            return Reason(Why.PROFILE, node, f"profile {self.name} has no integer kernel for {op}")
        if activation.dynamic and op not in self.dynamic:
            return Reason(Why.DYNAMIC, node, f"{op} is not quantized as its input arrives: that is for layers with weights")
        activations = DYNAMIC_ACTIVATIONS if activation.dynamic else self.activations
        return self._admits(node, "activations", activation, activations) or (
            None if weight is None else self._admits(node, "weights", weight, self.weights)
        )

    def _admits(self, node: str, what: str, spec: QuantSpec, accepted: tuple[Accepted, ...]) -> Reason | None:
        if any(each.fits(spec) for each in accepted):
            return None
        choices = " or ".join(map(str, accepted))
        return Reason(Why.PROFILE, node, f"profile {self.name} takes {what} as {choices}, the qconfig asks for {spec}")
