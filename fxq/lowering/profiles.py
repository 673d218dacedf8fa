"""PROFILES: the backends that fxq compiles for. A third one is a new row."""

from __future__ import annotations

from torch import nn

from fxq.dynamic.modules import RECURRENT
from fxq.errors import ConfigError
from fxq.graph.names import qualified_name
from fxq.graph.opdef import Policy
from fxq.graph.ops import OPS
from fxq.graph.profile import Accepted, BackendProfile

_QUANTIZABLE = frozenset(op.name for op in OPS if op.policy not in (Policy.FLOAT, Policy.METADATA))

_DYNAMIC = frozenset({"linear", "conv", *map(qualified_name, RECURRENT)})
_WEIGHT_ONLY = frozenset({"linear", "embedding", *map(qualified_name, (nn.EmbeddingBag, *RECURRENT))})

PROFILES = (
    BackendProfile(
        "x86",
        activations=(Accepted("uint8", symmetric=False),),
        weights=(Accepted("int8", symmetric=True, axes=(None, 0)),),
        ops=_QUANTIZABLE,
        dynamic=_DYNAMIC,
        weight_only=_WEIGHT_ONLY,
        multiplier_bits=22,
        fixed_point_add=False,
        balanced_weights=True,
    ),
    BackendProfile(
        "qnnpack",
        activations=(Accepted("uint8", symmetric=False), Accepted("int8", symmetric=True)),
        weights=(Accepted("int8", symmetric=True, axes=(None, 0)),),
        ops=_QUANTIZABLE,
        dynamic=_DYNAMIC,
        weight_only=_WEIGHT_ONLY,
        multiplier_bits=24,
        fixed_point_add=True,
    ),
)

# torch.ao's engine names for the same CPUs
_ALIASES = {"fbgemm": "x86", "onednn": "x86"}


def find_profile(profile: str | BackendProfile) -> BackendProfile:
    """A profile by name ("x86", "qnnpack", or torch.ao's "fbgemm" and "onednn", which are x86), or itself.

    Raises:
        ConfigError: no profile has that name.
    """
    if isinstance(profile, BackendProfile):
        return profile
    for row in PROFILES:
        if row.name == _ALIASES.get(profile, profile):
            return row
    names = ", ".join(repr(row.name) for row in PROFILES)
    raise ConfigError("profile", expected=f"one of {names}", found=repr(profile), remedy="pass profile='x86' for Intel and AMD CPUs")
