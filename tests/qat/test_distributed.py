"""Two processes over gloo: ranges and statistics are those of one process with the whole batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import fxq
from fxq.observers import HistogramObserver, PerChannelMinMaxObserver
from fxq.qat import FakeQuantize, float_state_dict, freeze_bn_stats, synchronize_bn_stats
from tests.qat.cases import batches, prepared, small, step

RANKS = 2
HISTOGRAM = fxq.QConfigMapping().set_global(fxq.QConfig(HistogramObserver, PerChannelMinMaxObserver))

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs torch.distributed with gloo")


def _ranges(qat: fxq.FxqModule) -> dict[str, Tensor]:
    fake = {name: module for name, module in qat.named_modules() if isinstance(module, FakeQuantize) and not module.forgets}
    return {name: torch.stack([module.scale, module.zero_point.float()]) for name, module in fake.items()}


def _on_rank(rank: int, folder: str, task: Any) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    torch.save(task(rank), Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


def _run(tmp_path: Path, task: Any) -> list[Any]:
    mp.spawn(_on_rank, (str(tmp_path), task), nprocs=RANKS)  # type: ignore[no-untyped-call]
    return [torch.load(tmp_path / f"rank{rank}.pt", weights_only=False) for rank in range(RANKS)]


def _observe(mapping: fxq.QConfigMapping, part: slice) -> dict[str, Tensor]:
    qat = prepared(small(), mapping)
    qat.apply(freeze_bn_stats)  # each image is computed for itself
    for images, _ in batches(3):
        qat(images[part])
    return _ranges(qat)


def _observe_default(rank: int) -> dict[str, Tensor]:
    return _observe(fxq.get_default_qat_qconfig_mapping(), slice(8 * rank, 8 * rank + 8))


def _observe_histograms(rank: int) -> dict[str, Tensor]:
    return _observe(HISTOGRAM, slice(8 * rank, 8 * rank + 8))


@pytest.mark.parametrize("task", [_observe_default, _observe_histograms])
def test_ranks_together_find_the_qparams_of_one_with_all_data(tmp_path: Path, task: Any) -> None:
    mapping = fxq.get_default_qat_qconfig_mapping() if task is _observe_default else HISTOGRAM
    alone = _observe(mapping, slice(None))
    for found in _run(tmp_path, task):
        assert all(torch.equal(value, alone[name]) for name, value in found.items())


def _synchronized(rank: int, size: int = 8) -> dict[str, Tensor]:
    qat = prepared(small())
    qat.apply(synchronize_bn_stats)
    parallel = DistributedDataParallel(qat) if dist.is_initialized() else qat
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.05)
    for images, labels in batches(4):
        step(parallel, (images[size * rank :][:size], labels[size * rank :][:size]), optimizer)
    return {**float_state_dict(parallel), **_ranges(qat)}


def test_training_in_parallel_is_training_with_the_whole_batch(tmp_path: Path) -> None:
    """Gradients and batch statistics are sums in another order; both ranks have the same bits."""
    alone = _synchronized(0, size=16)
    first, second = _run(tmp_path, _synchronized)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        torch.testing.assert_close(value.float(), alone[name].float(), rtol=2e-2, atol=2e-3, msg=name)


def _nan_on_one_rank(rank: int) -> str:
    module = FakeQuantize(fxq.MovingAverageMinMaxObserver())
    try:
        module(torch.tensor([1.0, float("nan") if rank else 2.0]))
    except fxq.CalibrationError as error:
        return error.found
    return ""


def test_nan_on_one_rank_is_an_error_on_all(tmp_path: Path) -> None:
    assert all(_run(tmp_path, _nan_on_one_rank))
