from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_TENSOR, QParams, QuantSpec, choose_qparams, dequantize_tensor, quantize_tensor
from fxq.observers import EntropyObserver, HistogramObserver, MinMaxObserver, search_together
from fxq.observers.l2_errors import Histogram, Mass, approximate_errors, squared_errors, steps_of
from fxq.observers.l2_search import search_qparams

COUNT = 30_000
SPECS = [ACTIVATION, QuantSpec("uint8", 0, 127), WEIGHT_PER_TENSOR, QuantSpec("int8", -128, 127), QuantSpec("uint8", 0, 15)]


def _laplace() -> Tensor:
    uniform = torch.rand(COUNT) - 0.5
    return -uniform.sign() * torch.log1p(-2 * uniform.abs())


DATA: dict[str, Callable[[], Tensor]] = {
    "gaussian": lambda: torch.randn(COUNT),
    "laplace": _laplace,
    "relu": lambda: torch.randn(COUNT).relu(),
    "outlier": lambda: torch.cat([torch.randn(COUNT), torch.tensor([30.0])]),
    "far_outlier": lambda: torch.cat([torch.randn(COUNT), torch.tensor([1000.0])]),
    "relu_outlier": lambda: torch.cat([torch.randn(COUNT).relu(), torch.tensor([100.0])]),
    "outlier_on_an_edge": lambda: torch.cat([torch.randn(COUNT), torch.tensor([-128.0])]),
    "uniform": lambda: torch.rand(COUNT),
    "bimodal": lambda: torch.cat([torch.randn(COUNT // 2) * 0.3 - 3, torch.randn(COUNT // 2) + 6]),
    "negative": lambda: -torch.randn(COUNT).abs(),
}


def data(name: str) -> Tensor:
    torch.manual_seed(7)
    return DATA[name]()


def error(x: Tensor, qparams: QParams) -> float:
    return float((dequantize_tensor(quantize_tensor(x, qparams), qparams) - x).double().square().mean())


def found(x: Tensor, spec: QuantSpec) -> QParams:
    observer = HistogramObserver(spec)
    observer(x)
    return observer.qparams()


def fractions(end: float) -> list[float]:
    return [end * 0.9**k for k in range(50)] if end else [0.0]


def brute_force(x: Tensor, spec: QuantSpec) -> float:
    """The least error of the raw data over a grid of ranges; two-sided grids on a tenth of the data first."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    if spec.symmetric:
        ends = [(-top, top) for top in fractions(max(-low, high))]
    else:
        ends = [(bottom, top) for bottom in fractions(low) for top in fractions(high)]
    candidates = [choose_qparams(torch.tensor(a), torch.tensor(b), spec) for a, b in ends]
    if len(candidates) > 50:
        candidates.sort(key=lambda qparams: error(x[::20], qparams))
    return min(error(x, qparams) for qparams in candidates[:50])


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("name", DATA)
def test_within_one_percent_of_brute_force(name: str, spec: QuantSpec) -> None:
    x = data(name)
    assert error(x, found(x, spec)) <= 1.01 * brute_force(x, spec)


@pytest.mark.parametrize("spec", [ACTIVATION, QuantSpec("uint8", 0, 127), WEIGHT_PER_TENSOR], ids=str)
@pytest.mark.parametrize("name", DATA)
def test_not_worse_than_torch_ao(name: str, spec: QuantSpec) -> None:
    x = data(name)
    scheme = torch.per_tensor_symmetric if spec.symmetric else torch.per_tensor_affine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = torch.ao.quantization.HistogramObserver(
            dtype=torch.qint8 if spec.dtype == "int8" else torch.quint8, qscheme=scheme, quant_min=spec.qmin, quant_max=spec.qmax
        )
        peer(x)
        scale, zero_point = peer.calculate_qparams()
    theirs = QParams(spec, scale.float().reshape(()), zero_point.int().reshape(()))
    assert error(x, found(x, spec)) <= 1.02 * error(x, theirs)


@pytest.mark.parametrize("name", DATA)
def test_never_worse_than_the_full_range(name: str) -> None:
    x = data(name)
    full = choose_qparams(x.min(), x.max(), ACTIVATION)
    assert error(x, found(x, ACTIVATION)) <= 1.001 * error(x, full)


@pytest.mark.parametrize("spec", SPECS)
def test_searching_together_gives_the_bits_of_searching_alone(spec: QuantSpec) -> None:
    generator = torch.Generator().manual_seed(3)
    sizes = (1, 3, 20, 40, 64, 64, 65, 200, 3000)
    batches = [torch.randn(size, generator=generator) * 2.0**-size for size in sizes]
    together = [HistogramObserver(spec) for _ in range(2 * len(sizes) + 1)]
    for observer, batch in zip(together, [*batches, *(batch.relu() for batch in batches), torch.zeros(5)], strict=True):
        observer(batch)
    for observer, qparams in zip(together, search_together(together), strict=True):
        alone = observer.qparams()
        assert (alone.scale.item(), alone.zero_point.item()) == (qparams.scale.item(), qparams.zero_point.item())


def test_searching_together_leaves_other_observers_their_own_qparams() -> None:
    observers = [
        HistogramObserver(),
        EntropyObserver(),
        MinMaxObserver(),
        HistogramObserver(QuantSpec("uint8", 0, 15)),
        HistogramObserver(),
    ]
    for size, observer in enumerate(observers):
        observer(torch.randn(300 + size, generator=torch.Generator().manual_seed(size)))
    for observer, qparams in zip(observers, search_together(observers), strict=True):
        assert qparams.spec == observer.spec
        assert qparams.scale.item() == observer.qparams().scale.item()


def _mass(edge: Tensor, count: Tensor) -> Mass:
    """All bins in use, and as far as they go."""
    return Mass(edge, count, torch.tensor(0), edge)


def test_squared_errors_against_dense_sampling() -> None:
    # three bins of 1, 5 and 2 elements, some narrower and some wider than a step, some outside the range
    edge = torch.tensor([-3.0, -2.0, -1.0, 0.0], dtype=torch.float64)
    mass = _mass(edge, torch.tensor([1.0, 5.0, 2.0], dtype=torch.float64))
    spec = QuantSpec("uint8", 0, 7, axis=0)
    candidates = choose_qparams(torch.tensor([-3.0, -1.5, -20.0]), torch.tensor([0.0, 0.4, 9.0]), spec)
    points = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    for row, total in enumerate(squared_errors(mass.knots, steps_of(mass.exponent, candidates)).tolist()):
        qparams = QParams(ACTIVATION, candidates.scale[row], candidates.zero_point[row])
        scale, zero_point = float(qparams.scale), int(qparams.zero_point)
        expected = 0.0
        for left, count in zip(edge.tolist(), mass.count.tolist(), strict=False):
            x = left + points
            q = ((x / scale).round() + zero_point).clamp(0, 7)
            expected += count * float(((q - zero_point) * scale - x).square().mean())
        assert abs(total - expected) < 1e-6 * expected


def test_approximate_errors_are_near_the_exact_ones() -> None:
    # a bell of ±1000 bins, much finer than the steps
    edge = torch.arange(-1000, 1001, dtype=torch.float64) - 17
    mass = _mass(edge, torch.exp(-((edge[:-1] / 250) ** 2) / 2))
    tops = torch.tensor([1000.0, 800.0, 500.0, 200.0])
    candidates = choose_qparams(-0.7 * tops, tops, QuantSpec("uint8", 0, 63, axis=0))
    exact = squared_errors(mass.knots, steps_of(mass.exponent, candidates))
    assert bool(((approximate_errors(mass, steps_of(mass.exponent, candidates)) - exact).abs() < 0.002 * exact).all())


def test_values_on_the_grid_keep_the_full_range() -> None:
    x = torch.arange(256, dtype=torch.float32).repeat(10) / 255
    assert found(x, ACTIVATION) == choose_qparams(x.min(), x.max(), ACTIVATION)


@pytest.mark.parametrize("value", [3.3, -2.0, 1.0, -0.7])
def test_a_constant_is_exact(value: float) -> None:
    x = torch.full((100,), value)
    assert found(x, ACTIVATION) == choose_qparams(x.min(), x.max(), ACTIVATION)
    assert error(x, found(x, ACTIVATION)) < 1e-13


def test_one_sided_data_keeps_zero_at_its_end() -> None:
    assert found(data("relu"), ACTIVATION).zero_point.item() == 0
    assert found(data("relu") + 5, ACTIVATION).zero_point.item() == 0
    assert found(data("negative"), ACTIVATION).zero_point.item() == 255


def test_zeros_do_not_move_the_range() -> None:
    # most of the bins are wider than a good step here, so zeros spread over their bin would ask for a smaller range
    observer, zeros = HistogramObserver(), HistogramObserver()
    observer(data("relu_outlier"))
    expected = observer.qparams()
    zeros(torch.zeros(COUNT))
    for _ in range(10):
        zeros.merge(copy.deepcopy(zeros))
    observer.merge(zeros)
    assert observer.qparams() == expected


def test_fewer_levels_clip_more() -> None:
    x = data("gaussian")
    ranges = [float(found(x, QuantSpec("uint8", 0, top)).scale) * top for top in (255, 127, 15)]
    assert ranges[0] > ranges[1] > ranges[2]


def test_an_empty_histogram_is_the_full_range() -> None:
    nothing = torch.zeros((), dtype=torch.float64)
    empty = Histogram(torch.zeros(256, dtype=torch.int64), torch.tensor(0), nothing, nothing)
    assert search_qparams(empty, ACTIVATION) == choose_qparams(torch.tensor(0.0), torch.tensor(0.0), ACTIVATION)


def test_deterministic() -> None:
    x = data("bimodal")
    assert found(x, ACTIVATION) == found(x, ACTIVATION)
