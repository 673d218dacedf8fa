from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import fxq
from fxq.cli import main
from tests.cli.commands import check_error, run_json


@pytest.fixture(autouse=True)
def _same_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_table(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "model.fxq", "--float", "zoo:build_model", "--runs", "2", "--threads", "1", "--kernels"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[:3]] == ["model", "int8", "float"]
    assert printed[1].endswith("1.00×")
    assert any("quantize" in line for line in printed[4:]), "kernels"


@pytest.mark.parametrize("runtime", ["auto", "integer"])
def test_json(saved: Path, capsys: pytest.CaptureFixture[str], runtime: str) -> None:
    found = run_json(capsys, "bench", "model.fxq", "--runs", "3", "--runtime", runtime, "--batch", "5", "--kernels")
    times = found["latency"]["int8"]
    assert times["runs"] == 3 and 0 < times["least"] <= times["median"] <= times["ninth"]
    assert {row["shape"][0] for row in found["kernels"]["rows"]} == {5}
    assert run_json(capsys, "bench", "model.fxq", "--runs", "1")["kernels"] is None


def test_batches_of_ones_own(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "model.fxq", "--runs", "1", "--batches", "zoo:batches"]) == 0
    capsys.readouterr()
    assert main(["bench", "model.fxq", "--runs", "1", "--batches", "zoo:none_at_all"]) == 2
    check_error(capsys, "zoo:none_at_all", "none", "not empty")


class Indexed(torch.nn.Module):
    """An input that is an index, and one that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(4, 8)
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, index: torch.Tensor, add: torch.Tensor | float) -> torch.Tensor:
        y: torch.Tensor = self.linear(self.table(index)) + add
        return y


def test_random_inputs_are_of_the_models_types(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fxq.save(fxq.quantize(Indexed().eval(), [(torch.tensor([1, 2]), torch.rand(2, 8))]), "index.fxq")
    assert main(["bench", "index.fxq", "--runs", "1"]) == 0
    capsys.readouterr()
    fxq.save(fxq.quantize(Indexed().eval(), [(torch.tensor([1, 2]), 0.5)]), "number.fxq")
    assert main(["bench", "number.fxq", "--runs", "1"]) == 2
    check_error(capsys, "input add", "something else", "--batches")


@pytest.mark.parametrize("option", ["--runs", "--threads", "--batch"])
@pytest.mark.parametrize("value", ["0", "-1", "some"])
def test_counts(capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "model.fxq", f"{option}={value}"])
    assert caught.value.code == 2
    assert f"{option}: expected a whole number of at least 1, found {value!r}" in capsys.readouterr().err
