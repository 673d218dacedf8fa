"""What can be switched on and off during training, as functions for `model.apply`."""

from __future__ import annotations

from torch import nn

from fxq.qat.fake_quantize import FakeQuantize
from fxq.qat.trained import TrainedNorm


def enable_observer(module: nn.Module) -> None:
    """Ranges follow the data from now on: model.apply(enable_observer)."""
    if isinstance(module, FakeQuantize):
        module.enable_observer()


def disable_observer(module: nn.Module) -> None:
    """Ranges stay what they are: model.apply(disable_observer)."""
    if isinstance(module, FakeQuantize):
        module.disable_observer()


def enable_fake_quant(module: nn.Module) -> None:
    """Values are rounded as in int8: model.apply(enable_fake_quant)."""
    if isinstance(module, FakeQuantize):
        module.fake_quant_enabled = True


def disable_fake_quant(module: nn.Module) -> None:
    """Values are float: model.apply(disable_fake_quant)."""
    if isinstance(module, FakeQuantize):
        module.fake_quant_enabled = False


def freeze_bn_stats(module: nn.Module) -> None:
    """Batch norms use their running statistics, and leave them as they are: model.apply(freeze_bn_stats)."""
    if isinstance(module, TrainedNorm):
        module.frozen = True


def update_bn_stats(module: nn.Module) -> None:
    """Batch norms use the statistics of the batch in training, and follow them: model.apply(update_bn_stats)."""
    if isinstance(module, TrainedNorm):
        module.frozen = False


def synchronize_bn_stats(module: nn.Module) -> None:
    """Batch norms use the statistics of the batches of all ranks, on CPUs too: model.apply(synchronize_bn_stats).

    Those that were a torch.nn.SyncBatchNorm when the model was prepared do so anyway.
    """
    if isinstance(module, TrainedNorm):
        module.synchronized = True
