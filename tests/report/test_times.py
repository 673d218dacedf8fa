from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import ConfigError, StageError
from fxq.lowering.executable import regions_of
from fxq.report import TimeProfile, profile
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.peak import DotLoop, peak_macs
from tests.runtime.jit.regions import EVERY_ISA


class Net(nn.Module):
    """A region, a float island, and a region."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.logsumexp(self.second(x), (2, 3))
        y: Tensor = self.head(x)
        return y


def images(count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def converted(runtime: str = "auto") -> fxq.FxqModule:
    torch.manual_seed(0)
    prepared = fxq.prepare_fx(Net().eval(), fxq.get_default_qconfig_mapping("x86"), (images(),))
    fxq.calibrate(prepared, [images()], progress=False)
    return fxq.convert_fx(prepared, runtime=runtime)


def test_rows_are_the_kernels_of_all_regions_and_the_calls_between() -> None:
    model, x = converted("jit"), images()
    found = profile(model, x, runs=2)
    islands = [row for row in found.rows if row.region is None]
    assert [(row.name, row.runs, row.shape, row.macs) for row in islands] == [("logsumexp", "logsumexp", (2, 8), 0)]
    model(x)
    assert {row.region for row in found.rows} - {None} == {compiled.region.name for compiled in regions_of(model)}
    assert {"first", "second", "head"} <= {row.name for row in found.rows}


@pytest.mark.parametrize("count", [1, 3])
def test_macs_add_up(count: int) -> None:
    found = profile(converted("jit"), (images(count),), runs=1)
    layers = {row.name: row.macs for row in found.rows if row.macs}
    assert layers == {"first": count * 64 * 16 * 27, "second": count * 64 * 8 * 16, "head": count * 8 * 5}
    assert found.macs == sum(layers.values())


def test_numbers_belong_together() -> None:
    found = profile(converted("jit"), {"x": images()}, runs=3)
    assert found.isa == find_isa().name and found.peak_gmacs > 0
    assert [row.ms for row in found.rows] == sorted((row.ms for row in found.rows), reverse=True)
    for row in found.rows:
        assert row.ms >= 0
        assert (row.gmacs > 0) == (row.macs > 0)
        assert row.peak_share == pytest.approx(row.gmacs / found.peak_gmacs, abs=1e-9)
    assert found.ms == sum(row.ms for row in found.rows) > 0


def test_text_and_json() -> None:
    found = profile(converted("jit"), images(), runs=1)
    assert TimeProfile.model_validate_json(found.to_json()) == found
    lines = str(found).splitlines()
    assert len(lines) == len(found.rows) + 2 and all(len(line) <= 120 for line in lines)
    assert lines[0].split()[:4] == ["layer", "runs", "region", "output"]
    assert f"{found.macs / 1e6:.1f} MMAC" in lines[-1] and f"peak of {found.isa}" in lines[-1]


def test_integer_runtime_has_its_ops_as_rows() -> None:
    found = profile(converted("integer"), images(), runs=1)
    assert {"first", "second", "head", "logsumexp"} <= {row.name for row in found.rows}
    assert {row.region for row in found.rows} == {None} and found.macs == 0


def test_results_and_threads_stay_as_they_were() -> None:
    model, x = converted("jit"), images()
    before, threads = model(x), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        profile(model, x, runs=2)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(model(x), before)


def test_timed_runs_have_the_same_results() -> None:
    model, x = converted("jit"), images()
    model(x)
    first = regions_of(model)[0]
    timed = first.run_timed([x])
    assert all(map(torch.equal, timed.outputs, first([x])))
    assert [call.step for call in timed.calls] == [call.step for call in first.latest[0].calls]


def test_only_converted_models_have_times() -> None:
    prepared = fxq.prepare_fx(Net().eval(), fxq.get_default_qconfig_mapping("x86"), (images(),))
    for model in (Net(), prepared):
        with pytest.raises(StageError, match="profile"):
            profile(model, images())
    with pytest.raises(ConfigError, match="runs"):
        profile(converted(), images(), runs=0)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_peak_counts_what_one_turn_multiplies(isa: Isa) -> None:
    loop = DotLoop(isa)
    assert loop.macs == loop.rows * 2 * isa.vector_bytes
    assert peak_macs(isa) > 0
