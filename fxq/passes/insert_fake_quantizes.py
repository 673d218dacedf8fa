"""One fake-quantize module per sharing group, at the places where calibration has observers."""

from __future__ import annotations

from torch.fx import Node

from fxq.graph.module import FxqModule
from fxq.graph.qtypes import QParams
from fxq.observers import FixedQParamsObserver, Observer
from fxq.passes.insert_observers import is_made_of_members, make_observer, members_of_groups, observe
from fxq.passes.pipeline import Context
from fxq.passes.share_qparams import fixed_qparams
from fxq.patterns.trainable import ADDED
from fxq.qat.fake_quantize import FakeQuantize


def insert_fake_quantizes(module: FxqModule, context: Context) -> int:
    """x → fake_quantize(x) for every quantized value that is not made of values of its group; also where the range is fixed.

    Returns:
        the number of fake-quantize modules.
    """
    groups = members_of_groups(module)
    observed = {
        group: sources for group, members in groups.items() if (sources := [node for node in members if not is_made_of_members(node)])
    }
    for group, sources in observed.items():
        observe(module, group, sources, f"{ADDED}.{sources[0].name}_fake_quant", _make(sources))
    return len(observed)


def _make(sources: list[Node]) -> Observer:
    fixed = next((qparams for node in sources if (qparams := fixed_qparams(node)) is not None), None)
    return fake_quantizing(make_observer(sources[0]) if fixed is None else _fixed(fixed))


def fake_quantizing(observer: Observer, *, forgets: bool = False) -> FakeQuantize:
    """The observer in a FakeQuantize; itself where it quantizes already, as those with learned scales do."""
    made = observer if isinstance(observer, FakeQuantize) else FakeQuantize(observer)
    made.forgets = forgets
    return made


def _fixed(qparams: QParams) -> Observer:
    return FixedQParamsObserver(qparams.spec, scale=float(qparams.scale), zero_point=int(qparams.zero_point))
