"""For models and recipes written for torch.ao.quantization: its objects as input, its calls under their names."""

from fxq.compat.importer import from_torch_ao

__all__ = ["from_torch_ao"]
