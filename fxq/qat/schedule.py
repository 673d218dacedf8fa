"""QATSchedule: when rounding starts, when ranges and batch norm statistics are frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from fxq.errors import ConfigError
from fxq.qat.fake_quantize import FakeQuantize
from fxq.qat.switches import disable_fake_quant, disable_observer, enable_fake_quant, enable_observer, freeze_bn_stats, update_bn_stats


@dataclass(frozen=True)
class QATSchedule:
    """Switches by the time: `schedule.apply(prepared, step)` at the beginning of every step, or with the epoch of every epoch.

    It has no state: what holds at a time follows from the time alone, so training can be resumed anywhere.

    Attributes:
        start_fake_quant: from then on values are rounded; ranges are observed from the beginning.
        freeze_observers: from then on ranges of activations stay as they are, and scales of weights; None: never.
        freeze_bn: from then on batch norms use their running statistics and keep them; None: never.

    Raises:
        ConfigError: something is frozen before it starts.
    """

    start_fake_quant: int = 0
    freeze_observers: int | None = None
    freeze_bn: int | None = None

    def __post_init__(self) -> None:
        if self.start_fake_quant < 0:
            raise _error("start_fake_quant", "a time from 0 on", self.start_fake_quant, "start at 0")
        earliest = max(self.start_fake_quant, 1)
        if self.freeze_observers is not None and self.freeze_observers < earliest:
            expected = f"a time from {earliest} on: ranges are needed when rounding starts, and observed before they are frozen"
            raise _error("freeze_observers", expected, self.freeze_observers, "freeze later, or start_fake_quant earlier")
        if self.freeze_bn is not None and self.freeze_bn < self.start_fake_quant:
            expected = f"a time from start_fake_quant={self.start_fake_quant} on: statistics have to follow the rounded weights"
            raise _error(
                "freeze_bn", expected, self.freeze_bn, "freeze later; batch norms in eval mode at prepare_qat_fx are frozen anyway"
            )

    def apply(self, model: nn.Module, now: int) -> None:
        """Switches everything in the model, wrapped or not, to what holds at this time.

        A batch norm is switched only from `freeze_bn` on, and back before it, where there is a freeze_bn.

        Raises:
            ConfigError: there is nothing to switch in the model.
        """
        if not any(isinstance(module, FakeQuantize) for module in model.modules()):
            remedy = "apply it to the model that prepare_qat_fx returned, or to one that holds it, before convert_fx"
            raise _error("apply", "a model with fake-quantize modules", type(model).__name__, remedy)
        model.apply(enable_fake_quant if now >= self.start_fake_quant else disable_fake_quant)
        model.apply(enable_observer if self.freeze_observers is None or now < self.freeze_observers else disable_observer)
        if self.freeze_bn is not None:
            model.apply(freeze_bn_stats if now >= self.freeze_bn else update_bn_stats)


class QATCallback:
    """QATSchedule for trainers with hooks, like Lightning's: `class Callback(QATCallback, lightning.Callback): pass`.

    Attributes:
        schedule: what to switch, and when.
        unit: whether its times are steps (trainer.global_step) or epochs (trainer.current_epoch).
    """

    def __init__(self, schedule: QATSchedule, unit: Literal["step", "epoch"] = "step") -> None:
        """Raises ConfigError for another unit."""
        if unit not in ("step", "epoch"):
            raise _error("unit", '"step" or "epoch"', unit, 'use "step"')
        self.schedule = schedule
        self.unit = unit

    def on_train_epoch_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Applies the schedule, where it counts epochs."""
        if self.unit == "epoch":
            self.schedule.apply(pl_module, trainer.current_epoch)

    def on_train_batch_start(self, trainer: Any, pl_module: nn.Module, batch: Any, batch_idx: int) -> None:
        """Applies the schedule, where it counts steps."""
        if self.unit == "step":
            self.schedule.apply(pl_module, trainer.global_step)


def _error(field: str, expected: str, found: object, remedy: str) -> ConfigError:
    return ConfigError(f"QATSchedule.{field}", expected=expected, found=repr(found), remedy=remedy)
