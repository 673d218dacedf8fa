"""OBSERVERS: the observer classes of fxq, and reading one from a file by its name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from fxq.errors import ConfigError
from fxq.observers.base import Observer
from fxq.observers.entropy import EntropyObserver
from fxq.observers.factory import ObserverFactory
from fxq.observers.fixed import FixedQParamsObserver, NoopObserver, PlaceholderObserver
from fxq.observers.histogram import HistogramObserver, PerChannelHistogramObserver
from fxq.observers.minmax import MinMaxObserver, PerChannelMinMaxObserver
from fxq.observers.moving_average import MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver
from fxq.observers.mse import MSEObserver, PerChannelMSEObserver
from fxq.observers.percentile import PercentileObserver
from fxq.observers.recording import RecordingObserver
from fxq.observers.weight_only import WeightOnlyObserver

OBSERVERS: tuple[type[Observer], ...] = (
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    PerChannelMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    HistogramObserver,
    PerChannelHistogramObserver,
    PercentileObserver,
    EntropyObserver,
    MSEObserver,
    PerChannelMSEObserver,
    RecordingObserver,
    FixedQParamsObserver,
    PlaceholderObserver,
    NoopObserver,
    WeightOnlyObserver,
)


def read_factory(document: Mapping[str, Any], where: str = "observer") -> ObserverFactory:
    """{"observer": "MinMaxObserver", "args": {...}} → the factory: the inverse of writing one to JSON.

    Args:
        where: the field that is read, for messages.

    Raises:
        ConfigError: there is no such class in OBSERVERS, or an argument does not fit.
    """
    unknown = sorted(set(document) - {"observer", "args"})
    args = document.get("args", {})
    if unknown or "observer" not in document or not isinstance(args, Mapping):
        raise ConfigError(
            where,
            expected='{"observer": name of a class, "args": {its arguments}}',
            found=repr(dict(document))[:200],
            remedy="write the file with QConfigMapping.to_json()",
        )
    return ObserverFactory.of(_find(str(document["observer"])), args)


def _find(name: str) -> type[Observer]:
    kinds = {kind.__name__: kind for kind in OBSERVERS}
    if name not in kinds:
        close = difflib.get_close_matches(name, kinds, n=3, cutoff=0.4) or sorted(kinds)
        raise ConfigError(
            f"observer {name!r}",
            expected="the name of a class in fxq.observers.OBSERVERS",
            found=repr(name),
            remedy=f"did you mean {', '.join(close)}? A class of your own is given in Python: MyObserver.with_args(...)",
        )
    return kinds[name]
