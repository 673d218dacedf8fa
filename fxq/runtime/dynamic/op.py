"""What ops that quantize as they go have in common: torch's integer ops say what they mean, compiled code does the same faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from fxq.runtime.choice import wanted_runtime
from fxq.runtime.dynamic.operator import is_compiled_around, register, run_rows
from fxq.runtime.integer.module import IntegerOp
from fxq.runtime.memory import has_memory

if TYPE_CHECKING:
    from fxq.runtime.jit.program import Program


class Compiled(Protocol):
    """An op as machine code."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    @property
    def programs(self) -> tuple[Program, ...]:
        """Those that have been compiled, of every kind the one for the most rows so far; none before the first call."""


class DynamicOp(IntegerOp):
    """Reads and writes float. Outside of a compiled region, for which sizes have to be known, it is compiled by itself, on its first call.

    Attributes:
        runtime: "integer": torch's integer ops; "auto": compiled code where LLVM has a target. FXQ_RUNTIME goes before "auto".
    """

    runtime: str = "auto"

    def compiled(self, *read: Tensor) -> Compiled | None:
        """The op as machine code, with a copy of the constants; None where the integer ops run, and for tensors that have no memory."""
        if not has_memory(*read):
            return None
        if "_compiled" not in self.__dict__:
            self.__dict__["_compiled"] = None if wanted_runtime(self.runtime) == "integer" else self.compile_code()
        found: Compiled | None = self.__dict__["_compiled"]
        return found

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code runs it where LLVM has a target; an op whose code could not be made says so from its first call on."""
        return wanted_runtime(self.runtime) != "integer" and self.__dict__.get("_compiled", self) is not None

    @property
    def programs(self) -> tuple[Program, ...]:
        """What has been compiled for it."""
        compiled: Compiled | None = self.__dict__.get("_compiled")
        return () if compiled is None else compiled.programs

    def compile_code(self) -> Compiled | None:
        """Makes what `compiled` gives; None where it cannot be made for this machine or this op."""
        raise NotImplementedError

    def run_with(self, runtime: str) -> None:
        """Chooses the runtime: "auto", "jit" or "integer"."""
        self.runtime = runtime
        self.derive()

    def derive(self) -> None:
        """Constants have changed: what was compiled from them goes."""
        self.__dict__.pop("_compiled", None)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DynamicOp:
        super()._apply(fn, recurse)
        self.derive()
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Machine code is not copied and not stored."""
        return {key: value for key, value in self.__dict__.items() if key != "_compiled"}


class OneTensorOp(DynamicOp):
    """Reads one tensor: for torch.compile an operator."""

    def __init__(self) -> None:
        super().__init__()
        self.number = register(self)

    def forward(self, x: Tensor) -> Tensor:
        """y = op(x)"""
        return run_rows(x.detach(), self.number) if is_compiled_around() else self.compute(x)

    def compute(self, x: Tensor) -> Tensor:
        """y, in memory of its own."""
        raise NotImplementedError

    def like(self, x: Tensor) -> Tensor:
        """A tensor with the shape and dtype of y."""
        raise NotImplementedError

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy has a number of its own."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.number = register(self)
