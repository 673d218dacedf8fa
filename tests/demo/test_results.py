from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fxq.demo.compare import VARIANTS, Compared, Machine, Quantized
from fxq.demo.measure import Measured
from fxq.demo.results import results_table, show_results, write_results
from fxq.graph.module import FxqModule

MACHINE = Machine("Some CPU", 2, "2.13.0")
FLOAT32 = Measured(99.5, math.inf, 704480, (0.8, 7.46))
INT8 = Measured(99.25, 41.72, 178400, (2.19, 107.06))

TABLE = """\
                            accuracy  change  SQNR  weights  batch 1  batch 64
                                   %  points    dB       kB       ms        ms
──────────────────────────────────────────────────────────────────────────────
Net, float32                   99.50                  704.5     0.80      7.46
  int8 x86                     99.25   -0.25  41.7    178.4     2.19    107.06
  int8 qnnpack                 99.25   -0.25  41.7    178.4     2.19    107.06
  int8 qnnpack per channel     99.50   +0.00          178.4     2.19    107.06
"""


@pytest.fixture
def results() -> list[Compared]:
    exact = replace(INT8, accuracy=99.5, sqnr=math.inf)
    model = FxqModule.__new__(FxqModule)
    rows = zip(VARIANTS, (INT8, INT8, exact), strict=True)
    return [Compared("Net", FLOAT32, tuple(Quantized(variant, model, measured) for variant, measured in rows))]


@pytest.mark.parametrize("width", [80, 120])
def test_table_fits(results: list[Compared], width: int) -> None:
    stream = io.StringIO()
    Console(file=stream, width=width).print(results_table(results))
    assert stream.getvalue() == TABLE


def test_notes_name_the_machine_and_what_the_runtime_is(results: list[Compared]) -> None:
    stream = io.StringIO()
    show_results(results, MACHINE, Console(file=stream, width=500))
    table, _, text = stream.getvalue().partition("\n\n")
    assert f"{table}\n" == TABLE
    measured, _, runtime = text.strip().splitlines()
    assert measured == "Measured on Some CPU, torch 2.13.0 with 2 threads; times are medians."
    assert "compiled for this CPU" in runtime and "FXQ_RUNTIME=integer" in runtime


def test_files_have_the_table_and_the_numbers(results: list[Compared], tmp_path: Path) -> None:
    write_results(results, MACHINE, tmp_path)
    assert (tmp_path / "results.txt").read_text(encoding="utf-8").startswith(TABLE)
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert document["machine"] == {"cpu": "Some CPU", "threads": 2, "torch": "2.13.0"}
    assert document["batch_sizes"] == [1, 64]
    (network,) = document["networks"]
    assert network["float32"] == {"accuracy": 99.5, "sqnr": None, "weight_bytes": 704480, "milliseconds": [0.8, 7.46]}
    assert [each["folder"] for each in network["quantized"]] == ["x86", "qnnpack", "qnnpack-per-channel"]
    assert [each["sqnr"] for each in network["quantized"]] == [41.72, 41.72, None]
