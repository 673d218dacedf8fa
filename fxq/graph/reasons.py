"""Why something was not done. Every refusal in fxq returns one of these."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Why(str, Enum):
    """The kinds of refusal, for grouping in reports."""

    NO_QCONFIG = "no qconfig"
    SWITCHED_OFF = "switched off"
    UNKNOWN_OP = "unknown op"
    FLOAT_ONLY = "float-only op"
    FLOAT_INPUT = "float input"
    FLOAT_READERS = "only float readers"
    DTYPE = "dtype"
    MUTATED = "changed in place"
    NOT_CONSTANT = "not a constant"
    OPERAND = "operand"
    PROFILE = "profile"
    DYNAMIC = "dynamic qconfig"
    WEIGHT_ONLY = "weight-only qconfig"
    OTHER_QCONFIG = "another qconfig"
    OVERFLOW = "overflow"
    NO_ELEMENTS = "reads no element"
    SHARED = "used more than once"
    TRAINING = "training mode"
    HOOKS = "module hooks"
    NOT_FUSABLE = "not fusable"
    UNTRACEABLE = "not traceable"
    NOT_REACHED = "not reached"
    KEPT_WHOLE = "kept whole"
    CUSTOM = "custom module"
    STANDALONE = "standalone module"


@dataclass(frozen=True)
class Reason:
    """Why a node stayed float, or why a rule was refused: the kind, the node, and one sentence."""

    why: Why
    node: str
    detail: str

    def __str__(self) -> str:
        return f"{self.node}: {self.detail}"
