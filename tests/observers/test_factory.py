from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from fxq.errors import ConfigError
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, QuantSpec
from fxq.observers import (
    OBSERVERS,
    FixedQParamsObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    Observer,
    ObserverFactory,
    PerChannelMinMaxObserver,
    read_factory,
)

ARGS = {
    "FixedQParamsObserver": {"scale": 1 / 256, "zero_point": 0},
    "HistogramObserver": {"bins": 1024, "dtype": torch.quint8},
    "MovingAverageMinMaxObserver": {"averaging_constant": 0.5, "quant_max": 127},
    "PerChannelMinMaxObserver": {"ch_axis": 1, "dtype": torch.qint8, "qscheme": torch.per_channel_symmetric},
}


class ClippedObserver(MinMaxObserver):
    """A class of the user's."""

    def __init__(self, spec: QuantSpec | None = None, *, limit: float = 6.0) -> None:
        super().__init__(spec)
        self.limit = limit

    def record(self, values: torch.Tensor) -> None:
        super().record(values.clamp(max=self.limit))


class Config(BaseModel):
    activation: ObserverFactory


@pytest.mark.parametrize("kind", OBSERVERS)
def test_makes_new_observers_of_its_class_and_spec(kind: type[Observer]) -> None:
    factory = kind.with_args(**ARGS.get(kind.__name__, {}))
    first, second = factory(), factory()
    assert type(first) is kind and first is not second
    assert first.spec == factory.spec


@pytest.mark.parametrize("kind", OBSERVERS)
def test_json_there_and_back(kind: type[Observer]) -> None:
    factory = kind.with_args(**ARGS.get(kind.__name__, {}))
    back = read_factory(json.loads(factory.model_dump_json()))
    assert back == factory and hash(back) == hash(factory) and back.args == factory.args
    assert ObserverFactory.model_validate(factory.model_dump()) == factory
    nested = Config(activation=factory)
    assert read_factory(json.loads(nested.model_dump_json())["activation"]) == factory


def test_json_is_plain() -> None:
    factory = MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric)
    assert factory.model_dump_json() == '{"observer":"MinMaxObserver","args":{"dtype":"int8","qscheme":"per_tensor_symmetric"}}'


@pytest.mark.parametrize("kind", OBSERVERS)
def test_pickle_and_deepcopy(kind: type[Observer]) -> None:
    factory = kind.with_args(**ARGS.get(kind.__name__, {}))
    assert pickle.loads(pickle.dumps(factory)) == factory and copy.deepcopy(factory) == factory


def test_own_arguments_arrive() -> None:
    assert HistogramObserver.with_args(bins=1024)().bins == 1024
    assert MovingAverageMinMaxObserver.with_args(averaging_constant=0.5)().averaging_constant == 0.5
    fixed = FixedQParamsObserver.with_args(scale=0.5, zero_point=7)()
    assert (fixed.scale, fixed.zero_point) == (0.5, 7)


def test_spec_argument() -> None:
    assert MinMaxObserver.with_args(spec=WEIGHT_PER_CHANNEL)().spec == WEIGHT_PER_CHANNEL
    assert PerChannelMinMaxObserver.with_args().spec == WEIGHT_PER_CHANNEL


def test_equal_by_meaning_not_by_spelling() -> None:
    a = MinMaxObserver.with_args(dtype=torch.quint8, quant_min=0)
    b = MinMaxObserver.with_args(spec=ACTIVATION)
    assert a == b == ObserverFactory(kind=MinMaxObserver) and len({a, b}) == 1
    assert a != MinMaxObserver.with_args(quant_max=127)
    assert a != MovingAverageMinMaxObserver.with_args()
    assert HistogramObserver.with_args(bins=1024) != HistogramObserver.with_args(bins=2048)


def test_later_arguments_replace_earlier_ones() -> None:
    factory = MovingAverageMinMaxObserver.with_args(averaging_constant=0.5, quant_max=127)
    more = factory.with_args(quant_max=100)
    assert (more.spec.qmax, more().averaging_constant) == (100, 0.5)
    assert factory.spec.qmax == 127


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        MinMaxObserver.with_args().kind = HistogramObserver  # type: ignore[misc]


def test_unknown_argument_lists_the_accepted_ones() -> None:
    with pytest.raises(ConfigError, match=r"dtype, qscheme, .*bins[\s\S]*found: +binz"):
        HistogramObserver.with_args(binz=3)
    with pytest.raises(ConfigError, match="bins"):
        read_factory({"observer": "MinMaxObserver", "args": {"bins": 3}})


def test_unknown_observer_names_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean HistogramObserver"):
        read_factory({"observer": "HistgramObserver"})


@pytest.mark.parametrize(
    "document", [{}, {"args": {}}, {"observer": "MinMaxObserver", "bins": 3}, {"observer": "MinMaxObserver", "args": 3}]
)
def test_another_layout_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match='"observer": name of a class'):
        read_factory(document)


def test_a_spec_that_the_class_cannot_serve_fails_at_once() -> None:
    with pytest.raises(ConfigError, match="PerChannelMinMaxObserver"):
        HistogramObserver.with_args(qscheme=torch.per_channel_affine)
    with pytest.raises(ConfigError, match="channel axis"):
        PerChannelMinMaxObserver.with_args(qscheme=torch.per_tensor_affine)


def test_a_required_argument_is_named() -> None:
    with pytest.raises(ConfigError, match="scale"):
        FixedQParamsObserver.with_args(zero_point=0)()


def test_a_class_of_the_users() -> None:
    factory = ClippedObserver.with_args(limit=2.0, quant_max=127)
    observer = factory()
    observer(torch.tensor([0.0, 5.0]))
    assert type(observer) is ClippedObserver and observer.high.item() == 2.0
    assert factory.spec == QuantSpec("uint8", 0, 127)
    assert factory == ClippedObserver.with_args(limit=2.0, quant_max=127) != MinMaxObserver.with_args(quant_max=127)
    assert copy.deepcopy(factory) == factory == pickle.loads(pickle.dumps(factory))
    assert factory.with_args(limit=3.0)().limit == 3.0
    assert Config(activation=factory).activation() is not None


def test_a_class_of_the_users_is_not_written_to_json() -> None:
    for model in (ClippedObserver.with_args(), Config(activation=ClippedObserver.with_args())):
        with pytest.raises(PydanticSerializationError, match="use a built-in observer"):
            model.model_dump_json()


def test_a_users_class_with_a_built_in_name_stays_the_users() -> None:
    impostor = type("MinMaxObserver", (ClippedObserver,), {})
    factory = impostor.with_args()
    assert type(factory()) is impostor and factory != MinMaxObserver.with_args()
