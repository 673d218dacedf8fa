"""Which layers to keep float."""

from fxq.tuning.results import LayerSensitivity, Proposal, Sensitivity
from fxq.tuning.sensitivity import sensitivity

__all__ = ["LayerSensitivity", "Proposal", "Sensitivity", "sensitivity"]
