"""Which tensors machine code can read."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def are_fake(tensors: Iterable[Tensor]) -> bool:
    """Whether torch computes shapes alone: with tensors that have no elements, or in a mode that makes such ones (FakeTensorMode)."""
    mode = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    return mode is not None or any(isinstance(each, FakeTensor) for each in tensors)


def has_memory(*tensors: Tensor) -> bool:
    """Whether all have elements in the memory of the CPU, and torch runs, and traces nothing."""
    return all(each.is_cpu for each in tensors) and not torch.compiler.is_compiling() and not are_fake(tensors)
