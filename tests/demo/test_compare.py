from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fxq.demo import compare as compare_module
from fxq.demo.compare import VARIANTS, Compared, compare, this_machine
from fxq.demo.digits import load_digits
from fxq.demo.models import MobileNetDigits
from fxq.demo.train import Recipe, train
from fxq.graph.stages import Stage


def test_every_variant_is_there_in_order(compared: Compared) -> None:
    assert tuple(each.variant for each in compared.quantized) == VARIANTS
    assert [each.model.profile.name for each in compared.quantized if each.model.profile] == ["x86", "qnnpack", "qnnpack"]
    assert all(each.model.stage is Stage.LOWERED for each in compared.quantized)


def test_per_channel_means_a_scale_for_each_channel(compared: Compared) -> None:
    scales = [each.model.get_submodule("stem.0").multiplier.unique().numel() for each in compared.quantized]
    assert scales[0] > 1 and scales[1] == 1 and scales[2] > 1


def test_int8_is_as_accurate_as_float(compared: Compared) -> None:
    """At most one of 400 images less; 30 dB is where a thousandth of the signal is noise."""
    assert compared.float32.accuracy > 85.0
    for each in compared.quantized:
        assert each.measured.accuracy >= compared.float32.accuracy - 0.25, each.variant.name
        assert each.measured.sqnr > 30.0, each.variant.name


def test_int8_weighs_a_quarter(compared: Compared) -> None:
    """A little more than a quarter, as biases and multipliers have 32 bits."""
    for each in compared.quantized:
        assert 3.5 < compared.float32.weight_bytes / each.measured.weight_bytes < 4.0


def test_depthwise_network_is_as_accurate_as_float() -> None:
    """x86 and qnnpack per channel; one scale for all channels costs depthwise convolutions more."""
    digits = load_digits()
    result = compare("MobileNetDigits", train(MobileNetDigits, digits, Recipe(epochs=3)).model, digits, runs=1)
    for each in result.quantized:
        if each.variant.per_channel:
            assert each.measured.accuracy >= result.float32.accuracy - 0.25, each.variant.name
        assert each.measured.sqnr > 26.0, each.variant.name


def test_machine_has_a_name() -> None:
    machine = this_machine()
    assert machine.cpu and machine.threads == torch.get_num_threads() and machine.torch == torch.__version__


@pytest.mark.parametrize(
    ("text", "expected"),
    [("processor\t: 0\nmodel name\t: Fast CPU @ 3: GHz\nmodel name\t: other\n", ["Fast CPU @ 3: GHz", "other"]), ("", [])],
)
def test_cpu_names_are_read(tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert list(compare_module._lines_named("model name", tmp_path / "cpuinfo")) == expected
    assert list(compare_module._lines_named("model name", tmp_path / "none")) == []
