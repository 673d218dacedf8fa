from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fxq
from fxq.errors import ConfigError, DataError, StageError
from fxq.testing import assert_graph_snapshot, assert_int8, assert_min_int8_macs, assert_min_sqnr, graph_snapshot
from tests.report.models import Block, block_input, prepared_block, prepared_islands

NO_LSTM = "LSTM has no form under this QConfig; set_object_type(nn.LSTM, fxq.per_channel_dynamic_qconfig) gives it one"


@pytest.fixture(scope="module")
def block() -> fxq.FxqModule:
    return fxq.convert_fx(prepared_block())


@pytest.fixture(scope="module")
def islands() -> fxq.FxqModule:
    return fxq.convert_fx(prepared_islands())


def float_block() -> Block:
    torch.manual_seed(0)
    return Block().eval()


# --- int8 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patterns", [(), ("*",), ("conv*",), ("conv1", "fc"), ("bn1",), ("relu",), ("c?nv2",)])
def test_int8_layers_pass(block: fxq.FxqModule, patterns: tuple[str, ...]) -> None:
    assert_int8(block, *patterns)


def test_prepared_models_are_checked_before_calibration() -> None:
    assert_int8(prepared_block(), "conv1", "fc")
    with pytest.raises(AssertionError, match="LSTM"):
        assert_int8(prepared_islands())


def test_float_layers_are_named_with_reasons(islands: fxq.FxqModule) -> None:
    assert_int8(islands, "conv*", "head", "attn")
    with pytest.raises(AssertionError) as caught:
        assert_int8(islands, "conv", "lstm", "bn2")
    assert str(caught.value).splitlines() == [
        "2 of 3 layers that match 'conv', 'lstm', 'bn2' are not int8:",
        "  BatchNorm2d bn2: it is in training mode; call model.eval() before prepare_fx",
        f"  LSTM lstm: {NO_LSTM}",
        "training mode: call model.eval() before fxq.prepare_fx",
        "another qconfig: name these in the QConfigMapping with the QConfig that each speaks of; fxq.quantize_dynamic needs no graph",
    ]


def test_undecided_layers_are_not_int8() -> None:
    fused = fxq.fuse_fx(float_block(), (block_input(),))
    with pytest.raises(AssertionError, match="4 of 4 layers are not int8:\n  Conv2d conv1: not decided yet"):
        assert_int8(fused)


def test_pattern_that_matches_nothing(block: fxq.FxqModule) -> None:
    with pytest.raises(ConfigError, match=r"assert_int8, 'con1'\n(.*\n)*  do:       write one of 'conv1'"):
        assert_int8(block, "conv2", "con1")


def test_min_int8_macs(block: fxq.FxqModule, islands: fxq.FxqModule) -> None:
    assert_min_int8_macs(block, 1.0)
    assert_min_int8_macs(islands, 0.6)
    with pytest.raises(AssertionError) as caught:
        assert_min_int8_macs(islands, 0.99)
    assert str(caught.value).splitlines()[:2] == [
        "65.8 % of the MACs are in int8, less than 99.0 %; in float are:",
        f"  LSTM lstm, 18.0 % of the MACs: {NO_LSTM}",
    ]


def test_wrong_shares(block: fxq.FxqModule) -> None:
    with pytest.raises(ConfigError, match=r"a number from 0 to 1\n.*99"):
        assert_min_int8_macs(block, 99)
    nothing = fxq.fuse_fx(torch.nn.ReLU().eval(), (block_input(),))
    with pytest.raises(ConfigError, match="none whose multiplications are counted"):
        assert_min_int8_macs(nothing, 0.5)


# --- numbers ---------------------------------------------------------------------------------------------------------------


def test_min_sqnr(block: fxq.FxqModule) -> None:
    found = fxq.compare(float_block(), block, [block_input()])
    reached = found.output.sqnr_db
    assert_min_sqnr(float_block(), block, [block_input()], reached - 0.1)
    with pytest.raises(AssertionError) as caught:
        assert_min_sqnr(float_block(), block, [block_input()], reached + 0.1)
    first, second, *_ = str(caught.value).splitlines()
    assert first == f"the output has {reached:.1f} dB: less than {reached + 0.1:.1f} dB; most is lost in"
    assert second == f"  {found.rows[0].what}: {found.rows[0].damage_db:.1f} dB"


def test_min_sqnr_of_layers(block: fxq.FxqModule) -> None:
    given = (float_block(), block, [block_input()])
    conv1 = fxq.compare(*given).row("conv1").so_far.sqnr_db
    assert_min_sqnr(*given, conv1 - 0.1, layers="conv1")
    with pytest.raises(AssertionError, match=f"^Conv2d conv1 has {conv1:.1f} dB: less"):
        assert_min_sqnr(*given, conv1 + 0.1, layers="conv1")
    with pytest.raises(ConfigError, match="'conv1'"):
        assert_min_sqnr(*given, 10.0, layers="con1")


# --- snapshots -------------------------------------------------------------------------------------------------------------

SNAPSHOT = """\
# stage LOWERED, profile x86
x: f32[2, 4, 6, 6] = input
x_q: u8[2, 4, 6, 6] = quantize(x)
conv1: u8[2, 8, 6, 6] = Conv[conv1](x_q)  # Conv2d conv1 + BatchNorm2d bn1 + ReLU relu
conv2: u8[2, 8, 6, 6] = Conv[conv2](conv1, conv1)  # Conv2d conv2 + add + ReLU relu
pool: u8[2, 8, 1, 1] = AdaptiveAvgPool[pool](conv2)
flatten: u8[2, 8] = flatten(pool, start_dim=1)
fc: f32[2, 5] = Linear[fc](flatten)
output fc
"""


def test_snapshot_has_structure_and_no_numbers_of_calibration(block: fxq.FxqModule) -> None:
    assert graph_snapshot(block) == SNAPSHOT
    other = fxq.quantize(float_block(), [3 * block_input()], progress=False)
    assert graph_snapshot(other) == SNAPSHOT


def test_snapshot_says_what_is_float(islands: fxq.FxqModule) -> None:
    lines = graph_snapshot(islands).splitlines()
    assert "hooked: f32[2, 16, 8, 8] = Conv2d[hooked](max_pool2d_dq)  # float: module hooks" in lines


def test_snapshot_of_a_file(block: fxq.FxqModule, islands: fxq.FxqModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "graph.txt"
    with pytest.raises(AssertionError, match=r"there is no snapshot .*graph.txt; run the test once with FXQ_UPDATE_SNAPSHOTS=1"):
        assert_graph_snapshot(block, path)
    assert_graph_snapshot(block, path, update=True)
    assert path.read_text(encoding="utf-8") == SNAPSHOT
    assert_graph_snapshot(block, path)
    path.write_text(SNAPSHOT.replace("u8[2, 8] = flatten", "f32[2, 8] = flatten"), encoding="utf-8")
    with pytest.raises(AssertionError) as caught:
        assert_graph_snapshot(block, path)
    assert "-flatten: f32[2, 8] = flatten(pool, start_dim=1)\n+flatten: u8[2, 8] = flatten" in str(caught.value)
    monkeypatch.setenv("FXQ_UPDATE_SNAPSHOTS", "1")
    assert_graph_snapshot(islands, path)
    assert path.read_text(encoding="utf-8") == graph_snapshot(islands)


def test_snapshot_that_is_no_text(block: fxq.FxqModule, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="a text file"):
        assert_graph_snapshot(block, tmp_path / "bytes")
    with pytest.raises(DataError, match="No such file"):
        assert_graph_snapshot(block, tmp_path / "no folder" / "graph.txt", update=True)


def test_float_models_are_refused() -> None:
    for check in (assert_int8, graph_snapshot):
        with pytest.raises(StageError, match="prepare_fx"):
            check(float_block())
