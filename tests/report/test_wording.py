"""Numbers and origins as people read them."""

from __future__ import annotations

import pytest

from fxq.graph.annotation import Origin
from fxq.graph.reasons import Why
from fxq.report.advice import ADVICE
from fxq.report.wording import describe_origin, elide, format_number, format_qparams, format_share, plural


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"), (7, "7 B"), (999, "999 B"), (999.4, "999 B"), (999.6, "1.00 kB"), (1000, "1.00 kB"), (1234, "1.23 kB"),
        (9994, "9.99 kB"), (9996, "10.0 kB"), (99_940, "99.9 kB"), (99_960, "100 kB"), (999_499, "999 kB"), (999_500, "1.00 MB"),
        (44_600_000, "44.6 MB"), (1_814_073_344, "1.81 GB"), (3e12, "3.00 TB"), (2e15, "2.00 PB"), (5e19, "50000 PB"),
    ],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert format_number(value, "B") == text


def test_number_without_a_unit() -> None:
    assert (format_number(640), format_number(885_000)) == ("640", "885 k")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (1e-9, "<0.1 %"),
        (0.0638, "6.4 %"),
        (0.5, "50.0 %"),
        (0.9994, "99.9 %"),
        (0.9995, ">99.9 %"),
        (0.99999, ">99.9 %"),
    ],
)
def test_shares(share: float, text: str) -> None:
    assert format_share(share) == text


def test_origins() -> None:
    conv = Origin("layer1.0.conv1", "torch.nn.Conv2d", module_type="torch.nn.Conv2d")
    add = Origin("layer1.0", "operator.add", module_type="torchvision.models.resnet.BasicBlock")
    flatten = Origin("", "torch.flatten", module_type="torchvision.models.resnet.ResNet")
    assert [describe_origin(origin) for origin in (conv, add, flatten)] == ["Conv2d layer1.0.conv1", "add in layer1.0", "flatten"]


def test_small_things() -> None:
    assert [elide("layers.0.mlp", length) for length in (12, 8)] == ["layers.0.mlp", "…s.0.mlp"]
    assert [plural(count, "node") for count in (0, 1, 2)] == ["0 nodes", "1 node", "2 nodes"]
    assert format_qparams(0.028064, 133) == "scale 0.02806, zero point 133"


def test_every_reason_has_advice() -> None:
    assert set(ADVICE) == set(Why)
