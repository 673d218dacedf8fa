from __future__ import annotations

import io

import torch
from rich.console import Console

from fxq.demo.noisy import Noise, load_noisy_digits
from fxq.demo.qat import WAYS, QATRecipe, run_qat_demo


def test_noisy_digits_are_the_same_for_a_seed_and_of_the_promised_size() -> None:
    first, second = (load_noisy_digits(Noise(train_copies=1, test_copies=2, seed=3)) for _ in range(2))
    assert torch.equal(first.test.images, second.test.images)
    assert (len(first.train), len(first.calibration), len(first.test)) == (1269, 128, 800)
    assert not torch.equal(first.test.images[:400], first.test.images[400:])
    assert torch.equal(first.test.labels[:400], first.test.labels[400:])


def test_table_has_every_way() -> None:
    file = io.StringIO()
    found = run_qat_demo(
        Console(file=file, width=100), QATRecipe(float_epochs=1, epochs=1, noise=Noise(0.2, train_copies=1, test_copies=1))
    )
    assert [each.name for each in found] == ["float32", *(way.name for way in WAYS)]
    assert found[3].accuracy > 30  # ten classes, two epochs
    printed = file.getvalue()
    assert all(way.name in printed for way in WAYS)
