"""isinstance(x, torch.Tensor), also as torch.jit has it, for a stand-in: answered for the value that it stands for. torch.fx says that it
is no tensor."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch.utils._pytree import tree_map

from fxq.graph.source import is_user_code
from fxq.passes.proxies import STAND_INS

_NAME = "isinstance"


@contextmanager
def answered_instance_checks() -> Iterator[None]:
    """While the context lasts, code of the user's that asks what a stand-in is gets the answer of the example inputs.

    The function stands in the modules that the user's code is in, in front of Python's; torch.fx, and whatever else looks at stand-ins,
    is told the truth. The tracer that is asked is that of the stand-in, so traces in several threads don't meet.
    """
    asking = [names for names in _namespaces() if _NAME not in names]
    for names in asking:
        names[_NAME] = _answered
    of_jit: Callable[[Any, Any], bool] = torch.jit.isinstance
    torch.jit.isinstance = lambda value, kind: of_jit(tree_map(_meant, value), kind)
    try:
        yield
    finally:
        for names in asking:
            names.pop(_NAME, None)
        torch.jit.isinstance = of_jit


def _answered(value: Any, kinds: Any) -> bool:
    return isinstance(_meant(value), kinds)


def _meant(value: Any) -> Any:
    return value.tracer.known(value) if type(value) in STAND_INS else value


def _namespaces() -> Iterator[dict[str, Any]]:
    """Of the user's modules, and of those that ask for their callers: torch.is_tensor, and what reads masks of attention."""
    yield vars(torch)
    yield vars(torch.nn.functional)
    for name, module in list(sys.modules.items()):
        names = vars(module) if isinstance(module, ModuleType) else {}
        file = names.get("__file__")
        if name == "__main__" or (isinstance(file, str) and is_user_code(file)):
            yield names
