"""One program on several threads, and several callers of one program."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fxq.runtime.integer.conv import ConvGeometry
from fxq.runtime.jit.region import CompiledRegion
from fxq.runtime.region import Region, Step, Value
from tests.runtime.jit.regions import conv, linear, random_bytes


@pytest.fixture(autouse=True)
def keep_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def network() -> Region:
    """Rows and panels are shared out, a border is filled beside what it surrounds, and short stages stay whole."""
    near = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))
    depthwise = ConvGeometry((2, 2), ((1, 1), (1, 1)), (1, 1), 96)
    steps = (
        Step("a", conv((96, 16, 3, 3), near), (Value(0),), {}),
        Step("b", conv((96, 1, 3, 3), depthwise), (Value(1),), {}),
        Step("c", conv((160, 96, 3, 3), near), (Value(2),), {}),
        Step("d", conv((160, 160, 3, 3), near, residual=True), (Value(3), Value(3)), {}),
    )
    return Region("network", 1, steps, (4, 2))


IMAGE = (2, 16, 21, 23)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_any_number_of_threads_gives_the_same_bits(threads: int) -> None:
    region = network()
    compiled = CompiledRegion(region)
    torch.set_num_threads(threads)
    for seed in range(20):
        x = [random_bytes(IMAGE, seed)]
        assert all(map(torch.equal, compiled(x), region.run(x)))


def test_the_number_of_threads_may_change_between_calls() -> None:
    region = network()
    compiled, x = CompiledRegion(region), [random_bytes(IMAGE)]
    expected = region.run(x)
    for threads in (2, 1, 4, 3, 2, 1, 4):
        torch.set_num_threads(threads)
        assert all(map(torch.equal, compiled(x), expected))


def test_several_callers_at_once() -> None:
    region = network()
    compiled = CompiledRegion(region)
    torch.set_num_threads(2)
    wrong: list[int] = []

    def call(seed: int) -> None:
        x = [random_bytes(IMAGE, seed)]
        expected = region.run(x)
        wrong.extend(seed for _ in range(20) if not all(map(torch.equal, compiled(x), expected)))

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_starts_threads_of_its_own() -> None:
    region = Region("linear", 1, (Step("a", linear(2048, 2048), (Value(0),), {}),), (1,))
    compiled, x = CompiledRegion(region), [random_bytes((16, 2048))]
    torch.set_num_threads(2)
    expected: Tensor = compiled(x)[0]
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(compiled(x)[0], expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
