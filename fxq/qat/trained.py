"""What replaces ops with weights during training: weights are fake-quantized, and batch norms act as if they were folded in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxq.graph.functional import apply_act
from fxq.graph.opdef import Call
from fxq.graph.ops import ops_by_name
from fxq.graph.qtypes import QParams, QuantSpec, enlarge_scales
from fxq.patterns.fusions import scale_channels
from fxq.qat.distributed import is_distributed, synced_batch_norm
from fxq.qat.fake_quantize import FakeQuantize, fake_quantize

# The least |γ / σ| that sets a grid for weights in training: a channel below it adds less to the output than 8 bits show, and dividing by
# 0 would lose it for good.
_SMALLEST_GAIN = 2.0**-12

# of the bias in a sum of 32 bits: qparams of weights leave room for it
_BIAS = QuantSpec("int32", -(2**30), 2**30, symmetric=True, axis=0)

NORM_TENSORS = ("running_mean", "running_var", "weight", "bias", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class NormTensors:
    """A batch norm's own tensors, f32 [channels]; gamma and beta where it is affine, batches (i64 []) where it counts them."""

    mean: Tensor
    variance: Tensor
    gamma: Tensor | None = None
    beta: Tensor | None = None
    batches: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Folded:
    """Weight and bias with the batch norm in them, f32."""

    weight: Tensor
    bias: Tensor | None


class TrainedNorm(nn.Module):
    """γ · (x − μ) / sqrt(σ² + ε) + β, with the statistics of the batch in training unless it is frozen.

    The tensors stay at their paths in the user's model, and are passed in.

    Attributes:
        path: of the batch norm in the user's model, for messages.
        names: which of NORM_TENSORS there are.
        momentum: weight of the newest batch in the running statistics; None: all batches weigh the same.
        synchronized: statistics are those of the batches of all ranks, as with torch.nn.SyncBatchNorm.
        frozen: the running statistics are used and kept in training, too.
    """

    def __init__(self, path: str, names: tuple[str, ...], momentum: float | None, eps: float) -> None:
        super().__init__()
        self.path = path
        self.names = names
        self.momentum = momentum
        self.eps = eps
        self.synchronized = False
        self.frozen = False

    @property
    def uses_batch(self) -> bool:
        """Whether the statistics are those of the batch."""
        return self.training and not self.frozen

    def forward(self, x: Tensor, *tensors: Tensor) -> Tensor:
        """x [N, C, ...] → the same shape. In training the running statistics follow the batch's, in place."""
        found = self.tensors(tensors)
        if not self.uses_batch:
            return F.batch_norm(x, found.mean, found.variance, found.gamma, found.beta, False, 0.0, self.eps)
        momentum = self._count(found.batches)
        if self.synchronized and is_distributed():
            return synced_batch_norm(x, (found.mean, found.variance), (found.gamma, found.beta), momentum, self.eps)
        return F.batch_norm(x, found.mean, found.variance, found.gamma, found.beta, True, momentum, self.eps)

    def tensors(self, given: tuple[Tensor, ...]) -> NormTensors:
        """The tensors by name, from their order in `names`."""
        by_name = dict(zip(self.names, given, strict=True))
        return NormTensors(*(by_name.get(name) for name in NORM_TENSORS))  # type: ignore[arg-type]

    def gain(self, found: NormTensors) -> Tensor:
        """g = γ / sqrt(σ² + ε) of the running statistics, f32 [channels]."""
        gain = torch.rsqrt(found.variance + self.eps)
        return gain if found.gamma is None else gain * found.gamma

    def shift(self, found: NormTensors, gain: Tensor) -> Tensor:
        """β − μ · g, f32 [channels]."""
        shift = found.mean * gain
        return -shift if found.beta is None else found.beta - shift

    def get_extra_state(self) -> Tensor:
        """Whether it is frozen, u8 [1]: so that a checkpoint holds it."""
        return torch.tensor([self.frozen], dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """The inverse of get_extra_state."""
        self.frozen = bool(state.item())

    def extra_repr(self) -> str:
        """For print(model)."""
        return f"{self.path}, momentum={self.momentum}, eps={self.eps}" + (", frozen" if self.frozen else "")

    def _count(self, batches: Tensor | None) -> float:
        """Counts the batch, and says its weight."""
        if batches is not None:
            batches.add_(1)
        if self.momentum is not None:
            return self.momentum
        return 1.0 if batches is None else 1.0 / float(batches)


class TrainedOp(nn.Module):
    """act(bn(op(x, w, b)) + residual) with weights rounded as they will be when the batch norm is folded into them.

    With running statistics this is what is deployed: op(x, fq(w · g), fq(b · g + β − μ · g)), g = γ / sqrt(σ² + ε), the bias in
    steps of s_x · s_w. With those of the batch it is bn(op(x, fq(w · g) / g, b)): the same grid for the weights, which g of the
    running statistics sets, and the batch norm behind it as in float training (Jacob et al. 2018, arXiv:1712.05877, section 3.2).
    The division is of weights rather than of outputs, and channels whose g is nearly 0 skip it, so that γ = 0 has finite values
    and gradients.

    Attributes:
        op_name: canonical name.
        attributes: operands of the canonical op that are no tensors.
        names: the tensor operands, in the order in which forward takes them; those of the batch norm follow.
        norm: None where there is no batch norm.
        weight_fake_quant: None where the op stays float.
        input_fake_quant: the fake-quantize module of x, whose place is in the graph: in a tuple it is no submodule. Empty where the op
            stays float, and where it is dynamic: then the bias is float.
        arrival_fake_quant: rounds x by its own range, where the op quantizes what it reads as it arrives; None elsewhere.
        first_sum: Σ of the weight when the model was prepared.
    """

    norm: TrainedNorm | None
    weight_fake_quant: FakeQuantize | None
    arrival_fake_quant: FakeQuantize | None

    def __init__(self, op_name: str, attributes: Mapping[str, Any], names: tuple[str, ...]) -> None:
        super().__init__()
        self.op_name = op_name
        self.attributes = dict(attributes)
        self.names = names
        self.norm = None
        self.weight_fake_quant = None
        self.arrival_fake_quant = None
        self.input_fake_quant: tuple[FakeQuantize, ...] = ()
        self.first_sum = 0.0

    def forward(self, *tensors: Tensor) -> Tensor:
        """The tensors in the order of names → what the canonical op gives."""
        operands = dict(zip(self.names, tensors, strict=False))
        if self.arrival_fake_quant is not None:
            operands["input"] = self.arrival_fake_quant(operands["input"])
        if self.norm is not None and self.norm.uses_batch:
            return self._with_batch_statistics(operands, self.norm, tensors[len(self.names) :])
        folded = self.fold(tensors)
        weight = folded.weight if self.weight_fake_quant is None else self.weight_fake_quant(folded.weight)
        bias = {} if folded.bias is None else {"bias": self.round_bias(folded.bias)}
        return self._compute({**self.attributes, **operands, "weight": weight, **bias})

    def fold(self, tensors: tuple[Tensor, ...]) -> Folded:
        """Weight and bias with the running statistics in them, not rounded. Takes the same tensors as forward."""
        operands = dict(zip(self.names, tensors, strict=False))
        weight, bias = operands["weight"], operands.get("bias")
        if self.norm is None:
            return Folded(weight, bias)
        found = self.norm.tensors(tensors[len(self.names) :])
        gain = self.norm.gain(found)
        shift = self.norm.shift(found, gain)
        return Folded(self._scaled(weight, gain), shift if bias is None else bias * gain + shift)

    def round_bias(self, bias: Tensor | None) -> Tensor | None:
        """rint(fl(b · fl(1f / fl(s_x · s_w)))) · fl(s_x · s_w), as the int8 op has it; b where x or w is not rounded."""
        rounding = [each for each in (*self.input_fake_quant, self.weight_fake_quant) if each is not None and each.rounds]
        if bias is None or len(rounding) < 2:
            return bias
        x, weight = (each.qparams() for each in rounding)
        steps = x.scale * enlarge_scales(weight, bias, x).scale
        steps = steps.repeat(bias.numel() // steps.numel())  # one scale for all channels, or for those of each group
        return fake_quantize(bias, QParams(_BIAS, steps, torch.zeros_like(steps, dtype=torch.int32)))

    def extra_repr(self) -> str:
        """For print(model)."""
        return self.op_name

    def _get_name(self) -> str:
        return f"Trained_{self.op_name}"

    def _compute(self, operands: dict[str, Any]) -> Tensor:
        computed: Tensor = ops_by_name()[self.op_name].call(**operands)
        return computed

    def _with_batch_statistics(self, operands: dict[str, Tensor], norm: TrainedNorm, of_norm: tuple[Tensor, ...]) -> Tensor:
        residual = operands.get("residual")
        gain = norm.gain(norm.tensors(of_norm)).detach()  # sets the grid only; gradients of γ and β are those of the batch norm
        bare = {**self.attributes, **operands, "act": None, "weight": self._on_grid(operands["weight"], gain)}
        if "residual" in bare:
            bare["residual"] = None
        normed: Tensor = norm(self._compute(bare), *of_norm)
        return apply_act(normed if residual is None else normed + residual, self.attributes.get("act"))

    def _on_grid(self, weight: Tensor, gain: Tensor) -> Tensor:
        """fq(w · g) / g, with |g| large enough to divide by."""
        if self.weight_fake_quant is None:
            return weight
        safe = torch.where(gain.abs() < _SMALLEST_GAIN, _SMALLEST_GAIN, gain)
        return self._scaled(self.weight_fake_quant(self._scaled(weight, safe)), 1.0 / safe)

    def _scaled(self, weight: Tensor, gain: Tensor) -> Tensor:
        return scale_channels(weight, gain, Call(ops_by_name()[self.op_name], self.attributes))


class TrainedDropout(nn.Module):
    """x → x · mask / (1 − p) in training, x in evaluation.

    Attributes:
        p: probability of 0.
        together: number of leading dimensions with a draw of their own: 1 for whole samples, 2 for whole channels, None for
            single elements.
    """

    def __init__(self, p: float, together: int | None) -> None:
        super().__init__()
        self.p = p
        self.together = together

    def forward(self, x: Tensor) -> Tensor:
        """Any shape and floating dtype."""
        if not self.training or self.together is None:
            return F.dropout(x, self.p, self.training)
        drawn = x.new_ones([*x.shape[: self.together], *[1] * (x.ndim - self.together)])
        return x * F.dropout(drawn, self.p)

    def extra_repr(self) -> str:
        """For print(model)."""
        return f"p={self.p}"
