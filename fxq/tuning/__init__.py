"""What a float model is prepared with before it is quantized: which layers to keep float, and smoothed activations."""

from fxq.tuning.results import LayerSensitivity, Proposal, Sensitivity
from fxq.tuning.sensitivity import sensitivity
from fxq.tuning.smooth import smooth

__all__ = ["LayerSensitivity", "Proposal", "Sensitivity", "sensitivity", "smooth"]
