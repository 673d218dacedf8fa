"""QConfig as a value."""

from __future__ import annotations

import copy
import pickle
from typing import Any, NamedTuple

import pytest
import torch

from fxq.errors import ConfigError
from fxq.observers import HistogramObserver, MinMaxObserver, Observer, PerChannelMinMaxObserver
from fxq.qconfig_mapping import QConfig

FACTORY = MinMaxObserver.with_args(eps=0.5)


class Foreign(NamedTuple):
    """As torch.ao's QConfig."""

    activation: Any
    weight: Any


class OwnObserver(MinMaxObserver):
    """An observer that a user wrote."""


def test_class_stands_for_its_default_arguments() -> None:
    assert QConfig(activation=HistogramObserver, weight=FACTORY) == QConfig(activation=HistogramObserver.with_args(), weight=FACTORY)


def test_positional_as_the_named_tuple_of_torch_ao() -> None:
    assert QConfig(HistogramObserver, FACTORY) == QConfig(weight=FACTORY, activation=HistogramObserver)


def test_makes_observers() -> None:
    qconfig = QConfig(activation=FACTORY, weight=PerChannelMinMaxObserver)
    assert isinstance(qconfig.activation(), MinMaxObserver)
    assert qconfig.activation().spec.eps == 0.5
    assert qconfig.weight().spec.axis == 0


def test_equal_and_hashable_by_value() -> None:
    first, second = QConfig(MinMaxObserver, FACTORY), QConfig(MinMaxObserver, MinMaxObserver.with_args(eps=0.5))
    assert first == second
    assert len({first, second, QConfig(FACTORY, MinMaxObserver)}) == 2


def test_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        QConfig(MinMaxObserver, MinMaxObserver).activation = FACTORY


@pytest.mark.parametrize("qconfig", [QConfig(HistogramObserver, FACTORY), QConfig(OwnObserver, OwnObserver.with_args(eps=0.25))], ids=str)
def test_pickle_and_deepcopy(qconfig: QConfig) -> None:
    assert pickle.loads(pickle.dumps(qconfig)) == qconfig
    assert copy.deepcopy(qconfig) == qconfig
    assert type(pickle.loads(pickle.dumps(qconfig)).activation()) is type(qconfig.activation())


def test_json_round_trip() -> None:
    qconfig = QConfig(HistogramObserver, PerChannelMinMaxObserver.with_args(dtype=torch.qint8, ch_axis=1))
    assert QConfig.model_validate_json(qconfig.model_dump_json()) == qconfig


def test_text() -> None:
    assert str(QConfig(MinMaxObserver, PerChannelMinMaxObserver)) == (
        "activation MinMaxObserver(uint8 0..255 affine per tensor), weight PerChannelMinMaxObserver(int8 -127..127 symmetric per channel 0)"
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "nothing"),
        (3, "int 3"),
        (torch.nn.Linear, "type <class 'torch.nn.modules.linear.Linear'>"),
        ("MinMaxObserver", "str 'MinMaxObserver'"),
    ],
)
@pytest.mark.parametrize("field", ["activation", "weight"])
def test_what_is_no_observer(field: str, value: object, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        QConfig(**{"activation": FACTORY, "weight": FACTORY, field: value})  # type: ignore[arg-type]
    assert (caught.value.where, caught.value.expected) == (f"QConfig.{field}", "an Observer class or an ObserverFactory")
    assert caught.value.found == found
    assert caught.value.remedy.startswith("give a class of fxq.observers")


def test_observer_instance_is_no_factory() -> None:
    observer: Observer = MinMaxObserver()
    with pytest.raises(ConfigError) as caught:
        QConfig(observer, FACTORY)  # type: ignore[arg-type]
    assert caught.value.where == "QConfig.activation"
    assert caught.value.found.startswith("MinMaxObserver ")


def test_missing_and_unknown_fields() -> None:
    with pytest.raises(ConfigError) as missing:
        QConfig(FACTORY)
    assert (missing.value.where, missing.value.found) == ("QConfig.weight", "nothing")
    with pytest.raises(ConfigError) as unknown:
        QConfig(FACTORY, weights=FACTORY)
    assert (unknown.value.where, unknown.value.found) == ("QConfig", "weights")


def test_fields_of_a_factory() -> None:
    with pytest.raises(ConfigError) as caught:
        QConfig({"observer": "MinMaxObserver", "arg": {}}, FACTORY)  # type: ignore[arg-type]
    assert caught.value.where == "QConfig.activation" and "'arg': {}" in caught.value.found


def test_foreign_qconfig() -> None:
    with pytest.raises(ConfigError) as caught:
        QConfig.model_validate(Foreign(FACTORY, FACTORY))
    assert caught.value.expected == "a QConfig of fxq, or None to keep float"
    assert caught.value.found.startswith(f"{__name__}.Foreign")
