"""The base of the parametrised ops: a torch.nn.Module whose constants keep their dtypes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fxq.errors import DataError

BYTES = (torch.uint8, torch.int8)


class IntegerOp(nn.Module):
    """Constants are buffers: state_dict, deepcopy, pickle and torch.save work, and .half() or .double() leave the bits alone."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> IntegerOp:
        """Moves constants, but never converts them: a multiplier in another dtype would be another op."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.derive()

    def derive(self) -> None:
        """Recomputes what follows from the constants; called when they have been set or loaded."""


def is_traced(shape: Iterable[int]) -> bool:
    """Whether torch traces: then lengths may be symbols, a loop would be unrolled, and whatever compiles the graph cuts it into pieces."""
    return torch.compiler.is_compiling() or any(isinstance(length, torch.SymInt) for length in shape)


def check_bytes(where: str, x: Tensor) -> None:
    """Raises DataError unless x is uint8 or int8."""
    if x.dtype not in BYTES:
        raise DataError(
            where,
            expected="a uint8 or int8 tensor",
            found=str(x.dtype),
            remedy="quantize the input with fxq.graph.qtypes.quantize_tensor, or pass QTensor.int_repr()",
        )


def check_image(where: str, x: Tensor, rank: int, channels: int) -> None:
    """Raises DataError unless x is uint8 or int8 [N, channels, *spatial] or [channels, *spatial], with `rank` spatial dimensions."""
    check_bytes(where, x)
    if x.ndim not in (rank + 1, rank + 2) or x.shape[-rank - 1] != channels:
        spatial = ", ".join("DHW"[3 - rank :])
        raise DataError(
            where,
            expected=f"[N, {channels}, {spatial}] or [{channels}, {spatial}]",
            found=f"shape {tuple(x.shape)}",
            remedy="give it the number of dimensions and channels it was converted with",
        )
