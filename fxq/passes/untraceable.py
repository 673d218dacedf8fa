"""What a trace could not go through: where it ended, as a reason and as an error."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fxq.errors import CaptureError
from fxq.graph.reasons import Reason, Why

_REMEDIES = (
    "write it without Python control flow on tensor values (torch.where, module attributes instead of tensor tests), "
    "or wrap the function with torch.fx.wrap, or quantize the traceable submodules one by one"
)


class Untraceable(CaptureError):
    """The forward of a module cannot be traced.

    Attributes:
        reason: the same in one sentence.
    """

    reason: Reason


@dataclass(frozen=True)
class Failure:
    """Where a trace ended.

    Attributes:
        path: of the innermost module that was being traced.
        place: ", file.py:12", or "" where no line of the user's took part.
        found: the line and the error.
    """

    path: str
    place: str
    found: str

    def error(self, model: nn.Module) -> Untraceable:
        """The same as an error of the trace of `model`."""
        submodule = f"submodule {self.path!r}" if self.path else "the model itself"
        where = f"{type(model).__name__}, {submodule}{self.place}"
        error = Untraceable(where, expected="code that torch.fx can trace", found=self.found, remedy=_REMEDIES)
        error.reason = self.reason
        return error

    @property
    def reason(self) -> Reason:
        return Reason(Why.UNTRACEABLE, self.path, f"cannot be traced: {self.found}{self.place}")
