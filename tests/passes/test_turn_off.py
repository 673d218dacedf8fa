"""A QConfigMapping at conversion."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from fxq.errors import CalibrationError, ConfigError
from fxq.graph.annotation import quant_of
from fxq.graph.module import FxqModule
from fxq.graph.text import print_graph
from fxq.observers import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver
from fxq.qconfig_mapping import QConfig, QConfigMapping
from tests.passes.cases import EVERYTHING, PER_CHANNEL, residual

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
OTHER = QConfig(activation=HistogramObserver, weight=PerChannelMinMaxObserver)


def prepared(model: nn.Module | None = None, mapping: QConfigMapping = EVERYTHING, profile: str = "x86") -> FxqModule:
    module = fxq.prepare_fx(model or residual(), mapping, X, profile=profile)
    with torch.no_grad():
        module(X)
    return module


def everything_but(*names: str) -> QConfigMapping:
    mapping = QConfigMapping().set_global(PER_CHANNEL)
    for name in names:
        mapping.set_module_name(name, None)
    return mapping


def floats(*names: str) -> QConfigMapping:
    mapping = QConfigMapping()
    for name in names:
        mapping.set_module_name(name, None)
    return mapping


@pytest.mark.parametrize("convert", [fxq.convert_fx, fxq.convert_to_reference_fx])
@pytest.mark.parametrize("names", ["stem.conv", "body.0.conv", "body.1", "fc", "pool", "stem.conv fc", "body.0.conv body.1"])
def test_turned_off_late_is_turned_off_from_the_start(convert: object, names: str) -> None:
    """Same graph, same numbers: what is turned off here shares no qparams with what is not, and its relu stays fused."""
    late = convert(prepared(), qconfig_mapping=floats(*names.split()))  # type: ignore[operator]
    early = convert(prepared(mapping=everything_but(*names.split())))  # type: ignore[operator]
    assert print_graph(late) == print_graph(early)
    assert torch.equal(late(X), early(X))


def test_a_copy_of_the_first_mapping_may_be_given_as_in_torch_ao() -> None:
    module = prepared()
    assert print_graph(fxq.convert_fx(module, qconfig_mapping=everything_but("fc"))) == print_graph(
        fxq.convert_fx(module, qconfig_mapping=floats("fc"))
    )
    assert print_graph(fxq.convert_fx(module, qconfig_mapping=EVERYTHING)) == print_graph(fxq.convert_fx(module))
    as_dict = {"": PER_CHANNEL, "module_name": [("fc", None)]}
    assert print_graph(fxq.convert_fx(module, None, qconfig_mapping=as_dict)) == print_graph(
        fxq.convert_fx(module, qconfig_mapping=floats("fc"))
    )


def test_everything_can_be_turned_off() -> None:
    model = residual()
    module = fxq.convert_fx(prepared(model), qconfig_mapping=QConfigMapping().set_global(None))
    assert not any(quant.is_int8 for node in module.graph.nodes if (quant := quant_of(node)) is not None)
    with torch.no_grad():
        assert (module(X) - model(X)).abs().max() < 1e-5


def test_the_prepared_model_is_left_as_it_was() -> None:
    module = prepared()
    before = print_graph(module)
    fxq.convert_fx(module, qconfig_mapping=floats("fc"))
    assert print_graph(module) == before
    assert fxq.report(fxq.convert_fx(module)).row("fc").reason is None


def test_the_report_says_who_did_it() -> None:
    report = fxq.report(fxq.convert_fx(prepared(), qconfig_mapping=floats("fc")))
    reason = report.row("fc").reason
    assert reason is not None and str(reason) == 'fc: kept float by set_module_name("fc")'


def test_one_part_of_a_fused_op_turns_off_all() -> None:
    module = fxq.convert_fx(prepared(), qconfig_mapping=QConfigMapping().set_object_type(torch.relu, None))
    assert [row.name for row in fxq.report(module).rows if row.reason is not None] == ["body_1"]


def test_batch_norms_are_folded_whatever_is_said_of_them() -> None:
    mapping = QConfigMapping().set_global(PER_CHANNEL).set_object_type(nn.BatchNorm2d, None)
    module = prepared(mapping=mapping)
    assert print_graph(fxq.convert_fx(module, qconfig_mapping=mapping)) == print_graph(fxq.convert_fx(module))


class Shared(nn.Module):
    """max_pool shares the qparams of what it reads: of sigmoid they are fixed, of conv observed."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.act = nn.Sigmoid() if fixed else nn.Identity()
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.pool(self.act(self.conv(x))))


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("name", ["conv", "act", "pool", "last"])
def test_groups_that_lose_a_member_keep_their_qparams(fixed: bool, name: str) -> None:
    torch.manual_seed(0)
    model = Shared(fixed).eval()
    module = fxq.convert_fx(prepared(model), qconfig_mapping=floats(name))
    with torch.no_grad():
        assert (module(X) - model(X)).abs().max() < 0.03
    reference = fxq.convert_to_reference_fx(prepared(model), qconfig_mapping=floats(name))
    assert (reference(X) - module(X)).abs().max() < 0.01


def test_quantized_twice_over_cat() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3 if i < 2 else 6, 3, 1) for i in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.cat([self.a(x), F.relu(self.b(x))], 1))

    torch.manual_seed(0)
    model = Model().eval()
    for name in "abc":
        int8 = fxq.convert_fx(prepared(model), qconfig_mapping=floats(name))
        with torch.no_grad():
            assert (int8(X) - model(X)).abs().max() < 0.05
        kinds = {row.name: row.kind.value for row in fxq.report(int8).rows}
        assert [each for each in "abc" if kinds[each] == "float"] == [name]


# --- what a second mapping cannot do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "where"),
    [
        (EVERYTHING, QConfigMapping().set_global(OTHER), "qconfig_mapping, set_global, "),
        (EVERYTHING, QConfigMapping().set_module_name("fc", OTHER), 'qconfig_mapping, set_module_name("fc"), fc'),
        (everything_but("fc"), EVERYTHING, "qconfig_mapping, set_global, fc"),
    ],
    ids=["another default", "another for one", "turning on"],
)
def test_only_none_may_be_new(first: QConfigMapping, second: QConfigMapping, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fxq.convert_fx(prepared(mapping=first), qconfig_mapping=second)
    assert caught.value.where.startswith(where)


def test_a_name_that_matches_nothing() -> None:
    with pytest.raises(ConfigError, match=r'"body\.0\.conv"'):
        fxq.convert_fx(prepared(), qconfig_mapping=floats("body.0.conf"))


def test_no_mapping_at_all() -> None:
    with pytest.raises(ConfigError, match=r"builtins\.int"):
        fxq.convert_fx(prepared(), qconfig_mapping=3)  # type: ignore[arg-type]


def test_no_data() -> None:
    with pytest.raises(CalibrationError):
        fxq.convert_fx(fxq.prepare_fx(residual(), EVERYTHING, X), qconfig_mapping=floats("fc"))


def test_a_value_that_would_need_another_spec() -> None:
    """In qnnpack a layer may have int8 activations behind one with uint8."""
    signed = QConfig(
        activation=MinMaxObserver.with_args(dtype=torch.int8, qscheme=torch.per_tensor_symmetric), weight=PerChannelMinMaxObserver
    )
    mapping = QConfigMapping().set_global(PER_CHANNEL).set_module_name("last", signed)
    model = nn.Sequential()
    model.add_module("first", nn.Conv2d(3, 3, 1))
    model.add_module("last", nn.Conv2d(3, 3, 1))
    module = prepared(model.eval(), mapping, "qnnpack")
    with pytest.raises(ConfigError, match="with which it was observed"):
        fxq.convert_fx(module, qconfig_mapping=floats("first"))
