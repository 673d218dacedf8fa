"""What is found for many tensors at once is what is found for each alone."""

from __future__ import annotations

import pytest
import torch

from fxq.errors import CalibrationError
from fxq.observers import (
    MinMaxObserver,
    ObserverFactory,
    Weight,
    default_per_channel_weight_observer,
    default_weight_observer,
    observe_together,
    per_channel_weight_observer_range_neg_127_to_127,
)
from fxq.observers.mse import PerChannelMSEObserver


class Halved(MinMaxObserver):
    """Takes half of each batch."""

    def record(self, values: torch.Tensor) -> None:
        super().record(values / 2)


FACTORIES = (
    default_weight_observer,
    default_per_channel_weight_observer,
    per_channel_weight_observer_range_neg_127_to_127,
    default_per_channel_weight_observer.with_args(ch_axis=1),
    PerChannelMSEObserver.with_args(),
    ObserverFactory.of(Halved, {}),
)


def test_weights_observed_together_have_the_qparams_of_each_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 5), (4, 2, 3, 3), (3, 5), (1, 1)]
    weights = [
        Weight(factory, torch.randn(shape, generator=generator).to(dtype), f"w{number}")
        for number, shape in enumerate(shapes)
        for factory in FACTORIES
        for dtype in (torch.float32, torch.float16)
    ]
    for weight, qparams in zip(weights, observe_together(weights), strict=True):
        assert qparams == weight.factory.qparams_of(weight.values)
        # nothing else lies in their memory, or it would be stored with the model
        assert all(each.untyped_storage().nbytes() == each.nbytes for each in (qparams.scale, qparams.zero_point))


@pytest.mark.parametrize("values", [torch.tensor([[1.0, float("nan")]]), torch.zeros(0, 2), torch.ones(2, 2, dtype=torch.int32)])
def test_the_weight_that_has_no_range_is_named(values: torch.Tensor) -> None:
    good = Weight(default_weight_observer, torch.ones(2, 2), "good")
    with pytest.raises(CalibrationError, match="tensor 'bad'"):
        observe_together([good, Weight(default_weight_observer, values, "bad"), good])
