from __future__ import annotations

import io

import torch
from rich.console import Console

from fxq.demo.distorted import Distortion
from fxq.demo.qat import WAYS, QATRecipe, run_qat_demo

FEW = Distortion(size=8, rotation=0.1, noise=0.1, train_copies=1, calibration_copies=1, test_copies=1)


def test_table_has_every_way() -> None:
    file, threads = io.StringIO(), torch.get_num_threads()
    found = run_qat_demo(Console(file=file, width=100), QATRecipe(float_epochs=6, epochs=1, distortion=FEW))
    assert [each.name for each in found] == ["float32", *(way.name for way in WAYS)]
    assert found[3].accuracy > 30  # of ten classes
    printed = file.getvalue()
    assert all(way.name in printed for way in WAYS)
    assert torch.get_num_threads() == threads


def test_ranges_are_frozen_for_the_last_epoch_and_never_from_the_first() -> None:
    assert [QATRecipe(epochs=epochs).frozen_from for epochs in (1, 2, 5)] == [1, 1, 4]
