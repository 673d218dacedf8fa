"""RecordingObserver: keeps some of the values that it sees, for pictures and debugging."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.qtypes import QuantSpec
from fxq.observers.distribution import Distribution, of_values
from fxq.observers.minmax import MinMaxObserver

GOLDEN_SECTION = (math.sqrt(5) - 1) / 2


class RecordingObserver(MinMaxObserver):
    """MinMaxObserver that also keeps values: `kept_values` of each of the first `kept_batches` batches, for `tensor_val`.

    It takes 4 · kept_batches · kept_values bytes, 256 KiB by default. The qparams are those of all values of all batches.
    `merge` appends the other's batches up to the same number, as one pass over self's batches and then the other's would:
    so what is kept depends on the order of the shards; the qparams do not.

    Attributes:
        kept_batches, kept_values: positive.
        recorded: f32 [sum of lengths], batch after batch.
        lengths: int64 [batches kept].
    """

    growing_buffers: ClassVar[Mapping[str, int]] = {**MinMaxObserver.growing_buffers, "recorded": 0, "lengths": 0}

    recorded: Tensor
    lengths: Tensor

    def __init__(self, spec: QuantSpec | None = None, *, kept_batches: int = 16, kept_values: int = 4096) -> None:
        """Has seen nothing. Raises ConfigError if kept_batches or kept_values is not positive."""
        super().__init__(spec)
        if not all(isinstance(kept, int) and kept >= 1 for kept in (kept_batches, kept_values)):
            raise ConfigError(
                type(self).__name__,
                expected="kept_batches and kept_values of at least 1",
                found=f"kept_batches={kept_batches!r}, kept_values={kept_values!r}",
                remedy="use the defaults, 16 and 4096; MinMaxObserver keeps no values",
            )
        self.kept_batches = kept_batches
        self.kept_values = kept_values
        self.register_buffer("recorded", torch.empty(0))
        self.register_buffer("lengths", torch.empty(0, dtype=torch.int64))

    @property
    def tensor_val(self) -> list[Tensor]:
        """What was kept of each batch: f32 of one dimension, in the order of the batch's elements."""
        return list(torch.split(self.recorded, self.lengths.tolist()))

    def get_tensor_value(self) -> list[Tensor]:
        """`tensor_val`, under torch.ao's other name."""
        return self.tensor_val

    def distribution(self) -> Distribution | None:
        """A histogram of the values that were kept."""
        found = super().distribution()
        return found if found is None or self.spec.axis is not None else of_values(self.recorded, found.low, found.high)

    def settings(self) -> tuple[object, ...]:
        """The bounds must be the same, too."""
        return (*super().settings(), self.kept_batches, self.kept_values)

    def record(self, values: Tensor) -> None:
        """The extremes of all values, and a sample of the batch if it is among the first."""
        super().record(values)
        if len(self.lengths) < self.kept_batches:
            self._append([sample(values, self.kept_values)])

    def absorb(self, other: Any) -> None:
        """The extremes of both, and other's batches as far as there is room."""
        super().absorb(other)
        self._append(other.tensor_val[: self.kept_batches - len(self.lengths)])

    def _append(self, batches: list[Tensor]) -> None:
        self.recorded = torch.cat([self.recorded, *batches])
        self.lengths = torch.cat([self.lengths, self.lengths.new_tensor([len(batch) for batch in batches])])


def sample(values: Tensor, limit: int) -> Tensor:
    """At most `limit` of the values, in their order; of more than that those at i·g mod n for i = 0, 1, ..., limit − 1.

    g is the number without a common divisor with n that is next below its golden section: no element comes twice, they
    are spread evenly (Weyl's sequence), they are the same ones in every run, and out of step with the tensor's rows.
    """
    count = values.numel()
    if count <= limit:
        return values.reshape(-1).clone()
    step = next(g for g in range(int(count * GOLDEN_SECTION), 0, -1) if math.gcd(g, count) == 1)
    position = (torch.arange(limit, device=values.device) * step % count).sort().values
    return values.reshape(-1)[position]
