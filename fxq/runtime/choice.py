"""Which executor runs int8 ops: compiled code or torch's integer ops."""

from __future__ import annotations

import os
from typing import Literal, get_args

from fxq.errors import ConfigError

Runtime = Literal["auto", "jit", "integer"]


def wanted_runtime(runtime: str) -> str:
    """The runtime asked for: FXQ_RUNTIME goes before the argument "auto". Raises ConfigError where there is none of that name."""
    wanted = os.environ.get("FXQ_RUNTIME", runtime) if runtime == "auto" else runtime
    if wanted not in get_args(Runtime):
        where = "FXQ_RUNTIME" if wanted != runtime else "runtime"
        raise ConfigError(where, expected="auto, jit or integer", found=repr(wanted), remedy="name one of the three")
    return wanted
