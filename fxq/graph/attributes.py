"""What a module holds under a name, without torch's search for it."""

from __future__ import annotations

from typing import Any

from torch import nn


def attribute_of(owner: nn.Module, name: str, default: Any = None) -> Any:
    """getattr(owner, name, default), in less time: Python would first look everywhere else, and make an error of finding nothing."""
    for held in (owner._parameters, owner._buffers, owner._modules, vars(owner)):
        if name in held:
            return held[name]
    return getattr(owner, name, default)


def find(module: nn.Module, path: str) -> Any:
    """The submodule, tensor or other attribute at a dotted path; None where there is none."""
    found: Any = module
    for name in path.split("."):
        if not isinstance(found, nn.Module):
            found = getattr(found, name, None)
        elif name in found._modules:
            found = found._modules[name]
        else:
            found = attribute_of(found, name)
    return found
