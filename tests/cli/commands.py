"""Commands as the tests run them."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch

import fxq
from fxq.cli import main


def run_quantize(*arguments: str, model: str = "zoo:build_model", batches: str = "zoo:batches") -> int:
    return main(["quantize", model, "--calibrate", batches, "--out", "model.fxq", *arguments])


def expected_output() -> torch.Tensor:
    """Of what `run_quantize` saves."""
    zoo = sys.modules["zoo"]
    output: torch.Tensor = fxq.quantize(zoo.build_model(), zoo.several)(zoo.one)
    return output


def run_json(capsys: pytest.CaptureFixture[str], *command: str, code: int = 0) -> Any:
    """What a command prints with --json."""
    assert main([*command, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def check_error(capsys: pytest.CaptureFixture[str], where: str, found: str, remedy: str) -> None:
    """Four lines on standard error, and nothing else."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert printed.err.startswith(f"fxq: {where}")
    _, _, rest = printed.err.partition("\n  found: ")
    said, _, advised = rest.partition("\n  do: ")
    assert found in f"{said}\n"
    assert remedy in advised
