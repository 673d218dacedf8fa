from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import torch
from rich.console import Console

from benchmarks import runtime
from benchmarks.runtime import Figure, Subject, check, largest_live_set, memory, ready, show, threads
from fxq.lowering.executable import regions_of

DIGITS = Subject("resnet_digits", 8)


@pytest.fixture(autouse=True)
def keep_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_wrong_bits_have_no_figure() -> None:
    there = ready(DIGITS)
    check("same", there, there.result.clone())
    with pytest.raises(RuntimeError, match="other: results are not those of the integer ops"):
        check("other", there, torch.nextafter(there.result, torch.tensor(1e9)))


def test_largest_live_set_is_less_than_the_arena() -> None:
    (region,) = regions_of(ready(DIGITS).model)
    (program,) = region.programs
    # the sum of a residual block: its input and what the two convolutions make, 16 channels of 8 by 8 pixels
    assert 2 * 16 * 64 <= largest_live_set(program) <= program.arena_bytes


def test_memory_and_threads_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_WARM_CALLS", 2)
    monkeypatch.setattr(runtime, "_ROUNDS", 1)
    _, taken, ratio, growth = memory(DIGITS, calls=10)
    assert taken.found > 0 and 1 <= ratio.found < 3 and growth.what == "growth over 10 calls"
    one, two, faster = threads(DIGITS)
    assert faster.found == one.found / two.found


def test_table_has_what_is_promised() -> None:
    text = io.StringIO()
    show([Figure("net", "growth", 0.125, "MB", "none"), Figure("net", "share", 2.0, "")], Console(file=text, width=100))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.getvalue().splitlines() if "net" in line]
    assert rows == [["net", "growth", "0.12 MB", "none"], ["net", "share", "2.00", ""]]
