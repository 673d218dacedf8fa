"""Real architectures through the whole compiler: coverage, accuracy, and the promises about bits."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

import fxq
from benchmarks.architectures import outputs, random_batches, sqnr
from benchmarks.engines import by_torch_ao
from fxq.runtime.integer.conv import Conv
from fxq.runtime.integer.linear import Linear
from tests.models.conftest import Built, Compiled


@contextmanager
def counting(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[list[int]]:
    """Multiply-accumulates of every call of the modules of these kinds, while the context lasts."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        counts.append(result.numel() * weight[0].numel())

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, kinds)]
    yield counts
    for hook in hooks:
        hook.remove()


def test_all_products_are_int8(compiled: Compiled) -> None:
    x = compiled.float.batches[0][:1]
    with counting(compiled.float.model, (nn.Conv2d, nn.Linear)) as exact, counting(compiled.lowered, (Conv, Linear)) as int8:
        compiled.float.model(x)
        compiled.lowered(x)
    assert exact and sorted(int8) == sorted(exact)
    totals = fxq.report(compiled.lowered).totals
    assert totals.macs_share_int8 == 1.0 and not totals.not_counted
    assert totals.macs == sum(exact) * len(compiled.float.batches[0])


def test_every_node_is_accounted_for(compiled: Compiled) -> None:
    report = fxq.report(compiled.lowered)
    assert [row.name for row in report.rows] == [node.name for node in compiled.lowered.graph.nodes]
    floats = [row for row in report.rows if row.reason is not None]
    assert all(row.macs == 0 for row in floats), floats
    silent = [row.name for row in report.rows if row.kind.value == "float" and row.reason is None]
    assert silent == []


def test_lowered_is_as_accurate_as_its_reference(compiled: Compiled) -> None:
    """Only roundings of ties and biases differ, so that the two errors against the float model are of one size."""
    batches, exact = compiled.float.batches[:1], compiled.float.exact[: len(compiled.float.batches[0])]
    lowered, reference = outputs(compiled.lowered, batches), outputs(compiled.reference, batches)
    assert abs(sqnr(exact, lowered) - sqnr(exact, reference)) < 0.4
    assert sqnr(reference, lowered) > sqnr(exact, lowered) + 1.0


def test_at_least_as_accurate_as_torch_ao(built: Built, engine: None) -> None:
    """fxq's x86 defaults against the best of torch.ao's engines, calibrated with and measured on the same batches."""
    ours = fxq.quantize(built.model, built.batches, "x86", progress=False)
    theirs = by_torch_ao(built.model, built.batches, "onednn")
    assert sqnr(built.exact, outputs(ours, built.batches)) >= sqnr(built.exact, outputs(theirs, built.batches))


@pytest.fixture
def engine() -> Iterator[None]:
    before = torch.backends.quantized.engine
    if "onednn" not in torch.backends.quantized.supported_engines:
        pytest.skip("this torch has no onednn engine")
    yield
    torch.backends.quantized.engine = before


def test_other_batch_and_size(compiled: Compiled) -> None:
    """Compiled for 64 × 64 images in eights; run on one of 96 × 80."""
    x = torch.randn(1, 3, 96, 80, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        exact, found = compiled.float.model(x), compiled.lowered(x)
    assert found.shape == exact.shape
    assert sqnr(exact, found) > LEAST_SQNR[compiled.profile]


# dB on images of another size than the calibration's; one scale for all channels of a weight is qnnpack's default
LEAST_SQNR = {"x86": 22.0, "qnnpack": 20.0}


@pytest.mark.usefixtures("threads")
def test_bits_do_not_depend_on_threads(compiled: Compiled) -> None:
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(outputs(compiled.lowered, compiled.float.batches[:1]))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_bits_do_not_depend_on_the_batch(compiled: Compiled) -> None:
    (batch,) = random_batches(1, 5, 64, seed=3)
    together = outputs(compiled.lowered, [batch])
    assert torch.equal(together, outputs(compiled.lowered, batch.split([1, 3, 1])))


def test_bits_survive_saving(compiled: Compiled) -> None:
    batches = compiled.float.batches[:1]
    expected = outputs(compiled.lowered, batches)
    saved = io.BytesIO()
    torch.save(compiled.lowered, saved)
    saved.seek(0)
    for loaded in (torch.load(saved, weights_only=False), pickle.loads(pickle.dumps(compiled.lowered))):
        assert torch.equal(outputs(loaded, batches), expected)
        assert fxq.print_graph(loaded) == fxq.print_graph(compiled.lowered)
