from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

from fxq.errors import CalibrationError, ConfigError
from fxq.graph.qtypes import QuantSpec
from fxq.observers import OBSERVERS, FixedQParamsObserver, MinMaxObserver, NoopObserver, Observer, PlaceholderObserver

MEASURING = [kind for kind in OBSERVERS if not issubclass(kind, (FixedQParamsObserver, PlaceholderObserver))]


def make(kind: type[Observer]) -> Observer:
    return kind(scale=0.25, zero_point=3) if kind is FixedQParamsObserver else kind()


def fed(kind: type[Observer], seed: int = 0) -> Observer:
    observer = make(kind)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        observer(torch.randn(4, 5, generator=generator))
    return observer


def assert_same(a: Observer, b: Observer) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert value.dtype == theirs[key].dtype and torch.equal(value, theirs[key]), key


@pytest.mark.parametrize("kind", OBSERVERS)
def test_forward_returns_the_same_object(kind: type[Observer]) -> None:
    x = torch.randn(4, 5, requires_grad=True)
    assert make(kind)(x) is x


@pytest.mark.parametrize("kind", MEASURING)
def test_batches_counts_only_what_is_not_empty(kind: type[Observer]) -> None:
    observer = make(kind)
    observer(torch.empty(0, 5))
    assert observer.batches == 0
    observer(torch.ones(4, 5))
    observer(torch.empty(4, 0))
    assert observer.batches == 1


@pytest.mark.parametrize("kind", MEASURING)
def test_disabled_observes_nothing(kind: type[Observer]) -> None:
    observer = fed(kind)
    before = copy.deepcopy(observer)
    observer.disable_observer()
    observer(torch.full((4, 5), 100.0))
    assert_same(observer, before)
    observer.enable_observer()
    observer(torch.full((4, 5), 100.0))
    assert observer.batches == 4


@pytest.mark.parametrize("kind", MEASURING)
def test_never_saw_data(kind: type[Observer]) -> None:
    observer = make(kind)
    observer.name = "layer1.conv"
    with pytest.raises(CalibrationError, match=r"layer1\.conv"):
        observer.qparams()


@pytest.mark.parametrize("kind", MEASURING)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_not_finite_names_tensor_and_batch_and_records_nothing(kind: type[Observer], bad: float) -> None:
    observer = fed(kind)
    observer.name = "layer1.conv"
    before = copy.deepcopy(observer)
    x = torch.randn(4, 5)
    x[2, 3] = bad
    with pytest.raises(CalibrationError, match=r"'layer1\.conv', batch 4"):
        observer(x)
    assert_same(observer, before)


@pytest.mark.parametrize("kind", MEASURING)
def test_integers_are_refused(kind: type[Observer]) -> None:
    with pytest.raises(CalibrationError, match=r"torch\.int64"):
        make(kind)(torch.ones(4, 5, dtype=torch.int64))


@pytest.mark.parametrize("kind", MEASURING)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_dtypes_are_observed_as_float32(kind: type[Observer], dtype: torch.dtype) -> None:
    x = torch.randn(4, 5).to(dtype)
    a, b = make(kind), make(kind)
    a(x)
    b(x.to(torch.float32))
    assert_same(a, b)


@pytest.mark.parametrize("kind", OBSERVERS)
def test_copies_carry_everything(kind: type[Observer]) -> None:
    observer = fed(kind)
    observer.name = "fc"
    saved = io.BytesIO()
    torch.save(observer, saved)
    saved.seek(0)
    for twin in (copy.deepcopy(observer), pickle.loads(pickle.dumps(observer)), torch.load(saved, weights_only=False)):
        assert_same(twin, observer)
        assert (twin.name, twin.spec, twin.batches) == ("fc", observer.spec, observer.batches)


@pytest.mark.parametrize("kind", OBSERVERS)
def test_state_dict_into_a_fresh_observer(kind: type[Observer]) -> None:
    observer = fed(kind)
    saved = io.BytesIO()
    torch.save(observer.state_dict(), saved)
    saved.seek(0)
    fresh = torch.nn.Sequential(make(kind))
    fresh.load_state_dict({f"0.{key}": value for key, value in torch.load(saved).items()})
    assert_same(fresh[0], observer)
    fresh[0](torch.ones(4, 5))
    observer(torch.ones(4, 5))
    assert_same(fresh[0], observer)


@pytest.mark.parametrize("kind", MEASURING)
def test_inference_mode_leaves_ordinary_buffers(kind: type[Observer]) -> None:
    observer, plain = make(kind), make(kind)
    x = torch.randn(4, 5)
    with torch.inference_mode():
        observer(x.clone())
    plain(x)
    assert_same(observer, plain)
    assert not any(buffer.is_inference() for buffer in observer.buffers())
    observer.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("kind", MEASURING)
def test_calculate_qparams_is_qparams(kind: type[Observer]) -> None:
    observer = fed(kind)
    scale, zero_point = observer.calculate_qparams()
    expected = observer.qparams()
    assert torch.equal(scale, expected.scale) and torch.equal(zero_point, expected.zero_point)
    assert scale.dtype == torch.float32 and zero_point.dtype == torch.int32
    assert expected.spec == observer.spec


@pytest.mark.parametrize("kind", [kind for kind in OBSERVERS if kind.mergeable])
def test_merge_with_one_that_saw_nothing_changes_nothing(kind: type[Observer]) -> None:
    observer = fed(kind)
    before = copy.deepcopy(observer)
    observer.merge(make(kind))
    assert_same(observer, before)
    fresh = make(kind)
    fresh.merge(observer)
    assert_same(fresh, observer)


def test_merge_refuses_another_class_and_another_spec() -> None:
    with pytest.raises(ConfigError, match="same class and settings"):
        MinMaxObserver().merge(NoopObserver())
    with pytest.raises(ConfigError, match="same class and settings"):
        MinMaxObserver().merge(MinMaxObserver(QuantSpec("uint8", 0, 127)))


def test_repr_says_what_is_asked_and_seen() -> None:
    observer = MinMaxObserver()
    observer.name = "fc"
    observer(torch.ones(2))
    assert repr(observer) == "MinMaxObserver(uint8 0..255 affine per tensor, batches=1, name='fc')"
