from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import ConfigError, DataError
from fxq.observers import HistogramObserver, PerChannelMinMaxObserver
from fxq.report.closeness import closeness
from fxq.tuning import Sensitivity, sensitivity
from fxq.tuning.sensitivity import _fewest
from fxq.tuning.simulation import Layer
from tests.report.models import block_input
from tests.report.test_compare import block, images

COARSE = fxq.QConfig(activation=HistogramObserver, weight=PerChannelMinMaxObserver.with_args(quant_min=-3, quant_max=3))


def mapping(damaged: str | None = None) -> fxq.QConfigMapping:
    found = fxq.get_default_qconfig_mapping("x86")
    return found if damaged is None else found.set_module_name(damaged, COARSE)


def reached(model: nn.Module, given: fxq.QConfigMapping, batches: list[Tensor]) -> float:
    int8 = fxq.quantize(model, batches, qconfig_mapping=given, progress=False)
    with torch.no_grad():
        return closeness([model(x) for x in batches], [int8(x) for x in batches]).sqnr_db


@pytest.mark.parametrize("damaged", ["conv1", "conv2", "fc"])
def test_the_damaged_layer_gives_back_most(damaged: str) -> None:
    found = sensitivity(block(), mapping(damaged), (block_input(),), images(), progress=False)
    assert found.rows[0].module == damaged
    assert found.rows[0].gain_db > 5
    assert found.proposal is None
    gains = [row.gain_db for row in found.rows]
    assert gains == sorted(gains, reverse=True) and len(gains) == 4
    for row in found.rows:
        assert row.gain_db == row.sqnr_db - found.sqnr_db
    assert sum(row.macs_share for row in found.rows) == pytest.approx(1.0)


@pytest.mark.parametrize(("damaged", "wanted"), [(None, 30.0), ("conv2", 45.0), ("conv2", 60.0), (None, 120.0)])
def test_the_proposal_reaches_its_target_when_applied(damaged: str | None, wanted: float) -> None:
    given = mapping(damaged)
    found = sensitivity(block(), given, (block_input(),), images(), min_sqnr_db=wanted, progress=False)
    proposal = found.proposal
    assert proposal is not None
    assert reached(block(), proposal.mapping, images()) == proposal.sqnr_db == proposal.reached >= wanted
    assert given == mapping(damaged)
    assert bool(proposal.kept_float) == (wanted > 30)
    assert min(proposal.ms, proposal.int8_ms, proposal.float_ms) > 0


def test_no_layer_of_the_proposal_can_be_left_out() -> None:
    found = sensitivity(block(), mapping("conv2"), (block_input(),), images(), min_sqnr_db=45.0, progress=False)
    assert found.proposal is not None and found.proposal.kept_float == ("Conv2d conv2",)
    assert found.proposal.macs_share_int8 == pytest.approx(1 - found.row("conv2").macs_share)


def test_a_metric_may_drop_by_so_much() -> None:
    """Here the metric is minus the largest error of the results, as a user's own function computes it."""
    model, x = block(), images()[0]
    with torch.no_grad():
        exact = model(x)

    def metric(candidate: nn.Module) -> float:
        with torch.no_grad():
            return -float((candidate(x) - exact).abs().max())

    int8 = fxq.quantize(model, images(), qconfig_mapping=mapping("conv2"), progress=False)
    allowed = -metric(int8) / 4
    found = sensitivity(model, mapping("conv2"), (block_input(),), images(), metric=metric, max_drop=allowed, progress=False)
    assert found.proposal is not None and found.proposal.kept_float
    applied = fxq.quantize(model, images(), qconfig_mapping=found.proposal.mapping, progress=False)
    assert metric(applied) == found.proposal.reached >= -allowed


def test_functions_can_stay_float_too() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.b(torch.sigmoid(self.a(x)) * x)
            return y

    torch.manual_seed(0)
    model, batches = Sums().eval(), [torch.randn(4, 4)]
    found = sensitivity(model, mapping(), (batches[0],), batches, min_sqnr_db=120.0, progress=False)
    assert found.proposal is not None
    assert {"Linear a", "Linear b", "sigmoid"} == set(found.proposal.kept_float)  # mul is float with all that it stands between
    assert found.proposal.macs_share_int8 == 0


def test_a_target_that_nothing_reaches() -> None:
    found = sensitivity(block(), mapping(), (block_input(),), images(), min_sqnr_db=math.inf, progress=False)
    assert found.proposal is not None and not found.proposal.is_reached
    assert found.proposal.reached > 120 and found.proposal.macs_share_int8 == 0
    assert "\nmissed: " in str(found)


def test_other_calibration_batches_and_iterators() -> None:
    def batches() -> Iterator[Tensor]:
        yield from images()

    from_list = sensitivity(block(), mapping(), (block_input(),), images(), progress=False)
    assert sensitivity(block(), mapping(), (block_input(),), batches(), progress=False) == from_list
    other = sensitivity(block(), mapping(), (block_input(),), images(), calibration_batches=[9 * block_input()], progress=False)
    assert other.sqnr_db < from_list.sqnr_db - 6


def test_text_and_json() -> None:
    found = sensitivity(block(), mapping("conv2"), (block_input(),), images(), min_sqnr_db=45.0, progress=False)
    assert Sensitivity.model_validate_json(found.to_json()) == found
    lines = str(found).splitlines()
    assert lines[0] == f"All layers int8: {found.sqnr_db:.1f} dB. With one layer float:"
    assert lines[1].split() == ["layer", "dB", "gain", "MACs"]
    assert lines[7:9] == ["Proposal for an SQNR of at least 45 dB: keep 1 layer float", "  Conv2d conv2"]
    assert lines[10].startswith("latency: ") and lines[10].endswith(" ms float")
    assert repr(found) == f"<Sensitivity: {found.sqnr_db:.1f} dB in int8, 4 layers>"
    with pytest.raises(ConfigError, match="conv9"):
        found.row("conv9")


@pytest.mark.parametrize(
    "target",
    [{"metric": float}, {"max_drop": 1.0}, {"metric": float, "max_drop": -1.0}, {"min_sqnr_db": 3.0, "metric": float, "max_drop": 1.0}],
)
def test_incomplete_targets(target: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"metric=accuracy, max_drop=0\.5"):
        sensitivity(block(), mapping(), (block_input(),), images(), progress=False, **target)  # type: ignore[arg-type]


def test_what_cannot_be_ranked() -> None:
    with pytest.raises(ConfigError, match="every layer stays float"):
        sensitivity(block(), fxq.QConfigMapping(), (block_input(),), images(), progress=False)
    with pytest.raises(DataError, match="at least one batch"):
        sensitivity(block(), mapping(), (block_input(),), [], progress=False)
    with pytest.raises(ConfigError, match="con1"):
        sensitivity(block(), mapping().set_module_name("con1", None), (block_input(),), images(), progress=False)


# --- the search ------------------------------------------------------------------------------------------------------------


def _layers(*macs: int) -> list[Layer]:
    return [Layer(str(number), fxq.graph.annotation.Origin(str(number), "x"), frozenset(), each) for number, each in enumerate(macs)]


@pytest.mark.parametrize(
    ("needed", "expected"),
    [(set(), []), ({"0"}, ["0"]), ({"3"}, ["3"]), ({"1", "4"}, ["1", "4"]), ({"0", "1", "2", "3", "4"}, ["0", "1", "2", "3", "4"])],
)
def test_the_fewest_layers_that_reach_the_target(needed: set[str], expected: list[str]) -> None:
    kept = _fewest(_layers(1, 5, 2, 4, 3), lambda layers: needed <= {layer.name for layer in layers})
    assert [layer.name for layer in kept] == expected


def test_of_two_layers_that_would_do_the_cheaper_one_stays_float() -> None:
    kept = _fewest(_layers(9, 1, 5), lambda layers: len({layer.name for layer in layers} & {"0", "1"}) >= 1 and len(layers) >= 1)
    assert [layer.name for layer in kept] == ["0"]
    kept = _fewest(_layers(9, 1, 5), lambda layers: "2" in {layer.name for layer in layers} and len(layers) >= 2)
    assert [layer.name for layer in kept] == ["1", "2"]
