"""QConfigs that differ, and origins as a tracer makes them."""

from __future__ import annotations

from fxq.graph.annotation import Origin
from fxq.observers import MinMaxObserver, PerChannelMinMaxObserver
from fxq.qconfig_mapping import QConfig

BLOCK = "models.Block"
CONV = "torch.nn.Conv2d"
LINEAR = "torch.nn.Linear"


def numbered_qconfig(number: int) -> QConfig:
    """As many different QConfigs as there are numbers."""
    return QConfig(activation=MinMaxObserver.with_args(eps=2.0 ** -(number + 1)), weight=PerChannelMinMaxObserver)


Q0, Q1, Q2, Q3 = (numbered_qconfig(number) for number in range(4))


def module_call(path: str, kind: str = CONV, index: int = 0) -> Origin:
    return Origin(path, kind, index, module_type=kind)


def function_call(scope: str, name: str = "torch.add", index: int = 0, around: str = BLOCK) -> Origin:
    return Origin(scope, name, index, module_type=around)
