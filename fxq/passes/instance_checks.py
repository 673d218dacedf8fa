"""isinstance(x, torch.Tensor) for a stand-in: answered for the value that it stands for. torch.fx says that it is no tensor."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

import torch

from fxq.graph.source import is_user_code
from fxq.passes.proxies import STAND_INS

_is_instance = isinstance
# code of torch's that asks on behalf of its caller
_ASKS_FOR_CALLER = (torch.is_tensor.__code__,)


@contextmanager
def answered_instance_checks() -> Iterator[None]:
    """While the context lasts, code of the user's that asks what a stand-in is gets the answer of the example inputs.

    torch.fx itself is told the truth. The tracer that is asked is that of the stand-in, so traces in several threads don't meet.
    """
    before, builtins.isinstance = builtins.isinstance, _answered
    try:
        yield
    finally:
        builtins.isinstance = before


def _answered(value: Any, kinds: Any) -> bool:
    if type(value) in STAND_INS and _may_ask(sys._getframe(1).f_code):
        return _is_instance(value.tracer.known(value), kinds)
    return _is_instance(value, kinds)


def _may_ask(code: CodeType) -> bool:
    return is_user_code(code.co_filename) or code in _ASKS_FOR_CALLER
