from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks import latency
from benchmarks.latency import Plan, Timing, best_peer, check, images, load, measure, show
from benchmarks.peers import PEERS, Peer, Setting
from benchmarks.results import write_json
from fxq.demo.models import ResNetDigits


@pytest.fixture(autouse=True)
def keep_torch_settings() -> Iterator[None]:
    threads, engine = torch.get_num_threads(), torch.backends.quantized.engine
    yield
    torch.set_num_threads(threads)
    torch.backends.quantized.engine = engine


def timing(contender: str, least: float) -> Timing:
    return Timing("net", contender, 1, 8, least, 2 * least)


ROWS = [timing("float32", 9.0), timing("fxq", 2.0), timing("torch.ao x86", 5.0), timing("OpenVINO", 4.0)]


def test_wrong_result_has_no_time() -> None:
    exact = torch.randn(2, 10, generator=torch.Generator().manual_seed(0))
    check("close", exact, exact * 1.05)
    for wrong in (exact * 1.2, exact.flip(1), exact * float("nan")):
        with pytest.raises(RuntimeError, match=r"far off: SQNR .* its times would mean nothing"):
            check("far off", exact, wrong)


def test_best_peer_is_neither_float_nor_fxq() -> None:
    assert best_peer(ROWS) is ROWS[3]
    assert best_peer([timing("float32", 1.0), *ROWS[1:3]]) is ROWS[2]


def test_table_has_ratios_and_names_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Peer("Elsewhere", ("no_such_package", "torch"), lambda model, batches: lambda setting: model)
    monkeypatch.setattr(latency, "PEERS", (absent,))
    text = io.StringIO()
    show(ROWS, Console(file=text, width=140))
    lines = text.getvalue().splitlines()
    (ours,) = (line for line in lines if "│ fxq" in line)
    (best,) = (line for line in lines if "best peer" in line)
    assert "2.000" in ours and "4.000" in ours and "1.00" in ours
    assert "OpenVINO" in best and "0.50" in best
    assert lines[-1] == "Elsewhere: not installed (no_such_package); pip install 'fxq[bench]'"


def test_a_network_is_measured_without_peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(latency, "PEERS", ())
    timings = list(measure("resnet_digits", Plan(8, (1, 2), (1, 3), 1)))
    names = ["float32", "fxq", "torch.ao onednn", "torch.ao x86"]
    assert [(each.threads, each.batch, each.contender) for each in timings] == [
        (t, b, name) for t in (1, 2) for b in (1, 3) for name in names
    ]
    assert all(0 < each.least <= each.median for each in timings)
    write_json(str(tmp_path / "times.json"), [asdict(each) for each in timings])
    assert len(json.loads((tmp_path / "times.json").read_text())["rows"]) == 16


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_that_is_installed_computes_the_model(peer: Peer) -> None:
    if peer.missing:
        pytest.skip(f"{peer.name} is not installed")
    subject = load("mobilenet_digits", 8)
    compiled = peer.quantize(subject.model, [images(subject, 4, seed) for seed in range(2)])
    x = images(subject, 3, 7)
    with torch.no_grad():
        check(peer.name, subject.model(x), compiled(Setting(1, tuple(x.shape)))(x))


def test_digits_are_the_demo_s_networks() -> None:
    subject = load("resnet_digits", 224)
    assert isinstance(subject.model, ResNetDigits) and not subject.model.training
    assert images(subject, 2, 0).shape == (2, 1, 8, 8)
