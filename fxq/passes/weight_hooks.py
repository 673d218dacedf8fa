"""torch.nn.utils.weight_norm and spectral_norm: hooks that compute a weight in front of every forward."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_REMOVED_BY = ((WeightNorm, remove_weight_norm), (SpectralNorm, remove_spectral_norm))


def keep_computed_weights(model: nn.Module) -> None:
    """weight = hook(g, v) before each call → the weight itself, in modules in evaluation, where it is the same each time."""
    for module in model.modules():
        hooks = () if module.training else tuple(module._forward_pre_hooks.values())
        for kind, remove in _REMOVED_BY:
            for name in [hook.name for hook in hooks if isinstance(hook, kind)]:
                remove(module, name)
