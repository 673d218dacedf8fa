"""The qparams of many tensors at once: the same bits, in much less time where calls take longer than the arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor

from fxq.graph.qtypes import QParams, QuantSpec, choose_qparams
from fxq.observers.base import Extent, Observer
from fxq.observers.factory import ObserverFactory
from fxq.observers.histogram import HistogramObserver
from fxq.observers.l2_search import search_all
from fxq.observers.minmax import MinMaxObserver

# histograms searched together: what is known of their bins takes up to 200 KiB for each, at the default number of bins
TOGETHER = 256


def search_together(observers: Sequence[Observer]) -> list[QParams]:
    """What qparams() of each gives; L2 searches of histograms for one spec are done together.

    Raises:
        CalibrationError: one of them saw no data.
    """
    found = {observer: observer.qparams() for observer in observers if not _searches(observer)}
    by_spec: dict[QuantSpec, list[HistogramObserver]] = {}
    for observer in observers:
        if _searches(observer):
            by_spec.setdefault(observer.spec, []).append(observer)
    for spec, alike in by_spec.items():
        for first in range(0, len(alike), TOGETHER):
            part = alike[first : first + TOGETHER]
            found |= zip(part, search_all((observer.histogram() for observer in part), spec), strict=True)
    return [found[observer] for observer in observers]


def _searches(observer: Observer) -> TypeGuard[HistogramObserver]:
    """Whether its qparams() is this search, and not that of a subclass."""
    return type(observer).qparams is HistogramObserver.qparams


@dataclass(frozen=True, eq=False)
class Weight:
    """Values for an observer of their own, and their name."""

    factory: ObserverFactory
    values: Tensor
    name: str


def observe_together(weights: Sequence[Weight]) -> list[QParams]:
    """What factory.qparams_of(values, name) gives for each; of those whose extremes are all that counts, for one spec together.

    Raises:
        CalibrationError: values that are not finite.
    """
    by_spec: dict[tuple[QuantSpec, torch.device], list[int]] = {}
    for place, each in enumerate(weights):
        if _has_range(each):
            by_spec.setdefault((each.factory.spec, each.values.device), []).append(place)
    found: dict[int, QParams] = {}
    for places in by_spec.values():
        found |= zip(places, _qparams_of_ranges([weights[place] for place in places]), strict=True)
    return [found[place] if place in found else each.factory.qparams_of(each.values, each.name) for place, each in enumerate(weights)]


def _has_range(weight: Weight) -> bool:
    """Whether its observer would take the extremes of the values, and make them qparams as they are."""
    kind = weight.factory.kind
    return weight.values.numel() > 0 and (kind.record, kind.qparams) == (MinMaxObserver.record, MinMaxObserver.qparams)


def _qparams_of_ranges(weights: Sequence[Weight]) -> Iterator[QParams]:
    extents = _extents(weights)
    low, high = (torch.cat([getattr(each, end).reshape(-1) for each in extents]) for end in ("low", "high"))
    of_all, sizes = choose_qparams(low, high, weights[0].factory.spec), [each.low.numel() for each in extents]
    parts = zip(extents, torch.split(of_all.scale, sizes), torch.split(of_all.zero_point, sizes), strict=True)
    return (QParams(of_all.spec, *(values.clone().reshape(each.low.shape) for values in found)) for each, *found in parts)


def _extents(weights: Sequence[Weight]) -> list[Extent]:
    """By one observer, which records nothing."""
    observer, found = weights[0].factory(), []
    with torch.inference_mode(False), torch.no_grad():
        for each in weights:
            observer.name = each.name
            found.append(observer.measure(observer.as_float32(each.values)))
    return found
