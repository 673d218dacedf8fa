from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fxq
from fxq import cli
from fxq.cli import main
from fxq.graph.module import FxqModule

ZOO = """
import torch
from torch import nn

def build_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()

made = build_model()

def batches():
    for seed in range(4):
        yield torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))

several = list(batches())
one = several[0]
number = 3

class Loader:
    def __len__(self):
        raise TypeError("no length")
    def __iter__(self):
        return iter(several)

loader = Loader()

def with_labels():
    return [(batch, torch.zeros(2)) for batch in several]

def changing():
    return [torch.zeros(2, 3, 8, 8), torch.zeros(2, 4, 8, 8)]

def breaking():
    yield one
    raise FileNotFoundError("images.npy")

def needs_argument(x):
    return made

def nothing():
    return None

class Failing(nn.Module):
    def forward(self, x):
        raise ValueError("no such mode")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the user's module zoo.py in it."""
    (tmp_path / "zoo.py").write_text(ZOO)
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    (tmp_path / "unreadable.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("zoo", "broken", "unreadable"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delenv("FXQ_DEBUG", raising=False)
    return tmp_path


def _quantize(*arguments: str, model: str = "zoo:build_model", batches: str = "zoo:batches") -> int:
    return main(["quantize", model, "--calibrate", batches, "--out", "model.pt", *arguments])


def _expected() -> torch.Tensor:
    zoo = sys.modules["zoo"]
    output: torch.Tensor = fxq.quantize(zoo.build_model(), zoo.several)(zoo.one)
    return output


# --- what works ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["zoo:build_model", "zoo:made"])
@pytest.mark.parametrize("batches", ["zoo:batches", "zoo:several", "zoo:loader"])
def test_quantize_saves_what_the_api_makes(folder: Path, capsys: pytest.CaptureFixture[str], model: str, batches: str) -> None:
    assert _quantize(model=model, batches=batches) == 0
    loaded = torch.load(folder / "model.pt", weights_only=False)
    assert isinstance(loaded, FxqModule)
    assert torch.equal(loaded(sys.modules["zoo"].one), _expected())
    printed = capsys.readouterr()
    assert "2 of 2 in int8" in printed.out
    assert printed.out.endswith(f"\n\nsaved model.pt ({(folder / 'model.pt').stat().st_size / 1000:,.1f} kB)\n")
    assert [path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".py"] == ["model.pt"]


def test_qconfig_profile_and_report(folder: Path) -> None:
    mapping = fxq.get_default_qconfig_mapping("qnnpack").set_module_name("4", None)
    (folder / "mapping.json").write_text(mapping.to_json())
    assert _quantize("--profile", "qnnpack", "--qconfig", "mapping.json", "--report", "report.txt") == 0
    loaded = torch.load(folder / "model.pt", weights_only=False)
    assert loaded.profile.name == "qnnpack"
    assert (folder / "report.txt").read_text(encoding="utf-8") == f"{fxq.report(loaded)}\n"
    assert [row.kind.value for row in fxq.report(loaded).rows if row.module in ("0", "4")] == ["int8", "float"]


def test_report_and_graph_of_a_saved_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _quantize() == 0
    loaded = torch.load(folder / "model.pt", weights_only=False)
    for command, expected in (
        (["report", "model.pt"], f"{fxq.report(loaded)}\n"),
        (["graph", "model.pt"], fxq.print_graph(loaded)),
        (["graph", "model.pt", "--dot"], fxq.to_dot(loaded)),
    ):
        capsys.readouterr()
        assert main(command) == 0
        assert capsys.readouterr().out == expected
    assert main(["report", "model.pt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == fxq.report(loaded).to_dict()


def test_demo_gets_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(cli, "run_demo", lambda out, console, recipe: given.append((out, recipe.seed)))
    assert main(["demo"]) == 0
    assert main(["demo", "--out", "x/y", "--seed", "3"]) == 0
    assert given == [(Path("fxq-demo"), 0), (Path("x/y"), 3)]


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: fxq")


@pytest.mark.parametrize("command", [[], ["demo"], ["quantize"], ["report"], ["graph"]])
def test_help_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"fxq {fxq.__version__}, torch {torch.__version__}\n"


# --- what does not ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "where", "found", "remedy"),
    [
        ("zoo", "zoo", "'zoo'", "zoo:build_model"),
        ("zoo:build_modell", "zoo:build_modell", "no such name", "write 'build_model'"),
        ("zo:build_model", "zo:build_model", "no module named 'zo'", "in the folder that holds it"),
        ("zoo.py:build_model", "zoo.py:build_model", "no module named 'zoo.py'", "without .py"),
        ("broken:f", "broken:f", "No module named 'no_such_package'", "FXQ_DEBUG=1"),
        ("broken:f", "broken:f", "broken.py:1)", "FXQ_DEBUG=1"),
        ("unreadable:f", "unreadable:f", "SyntaxError: invalid syntax (unreadable.py, line 1)\n", "FXQ_DEBUG=1"),
        ("zoo:needs_argument", "zoo:needs_argument", "missing 1 required positional argument: 'x'\n", "FXQ_DEBUG=1"),
        ("zoo:number", "zoo:number", "int", "name a function"),
        ("zoo:nothing", "zoo:nothing", "NoneType None", "return the model"),
        ("zoo:Failing", "model (the model itself, ", "no such mode", "pass example_inputs"),
    ],
)
def test_wrong_model(folder: Path, capsys: pytest.CaptureFixture[str], model: str, where: str, found: str, remedy: str) -> None:
    assert _quantize(model=model) == 2
    _check_error(capsys, where, found, remedy)
    assert not (folder / "model.pt").exists()


@pytest.mark.parametrize(
    ("batches", "where", "found", "remedy"),
    [
        ("zoo:nothing", "zoo:nothing", "NoneType", "return a list"),
        ("zoo:number", "zoo:number", "int", "name a function"),
        ("zoo:one", "zoo:one", "Tensor", "put it into a list"),
        ("zoo:with_labels", "example_inputs", "2 positional", "only the input"),
        ("zoo:changing", "calibration batch 1", "RuntimeError", "shapes and dtypes"),
        ("zoo:breaking", "zoo:breaking", "FileNotFoundError: images.npy", "FXQ_DEBUG=1"),
    ],
)
def test_wrong_batches(folder: Path, capsys: pytest.CaptureFixture[str], batches: str, where: str, found: str, remedy: str) -> None:
    assert _quantize(batches=batches) == 2
    _check_error(capsys, where, found, remedy)
    assert not (folder / "model.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "where", "found", "remedy"),
    [
        (["--profile", "arm"], "profile", "'arm'", "x86"),
        (["--qconfig", "none.json"], "none.json", "No such file", "check the name"),
        (["--qconfig", "zoo.py"], "QConfigMapping JSON, line 2 column 1", "Expecting value", "to_json"),
        (["--out", "none/model.pt"], "none/model.pt", "no folder none", "make the folder"),
        (["--out", "."], ".", "a folder", "write model.pt"),
        (["--report", "none/report.txt"], "none/report.txt", "no folder none", "make the folder"),
    ],
)
def test_wrong_options(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], where: str, found: str, remedy: str) -> None:
    assert _quantize(*arguments) == 2
    _check_error(capsys, where, found, remedy)


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "No such file"), (b"", "EOFError"), (b"garbage\n", "ValueError"), (b"PK\x03\x04garbage", "RuntimeError")],
)
def test_file_that_is_no_model(folder: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, found: str) -> None:
    if content is not None:
        (folder / "model.pt").write_bytes(content)
    assert main(["report", "model.pt"]) == 2
    _check_error(capsys, "model.pt", found, "check the name")


def test_file_with_another_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(torch.nn.Linear(2, 2), folder / "model.pt")
    assert main(["graph", "model.pt"]) == 2
    _check_error(capsys, "model.pt", "Linear", "--out")


def _check_error(capsys: pytest.CaptureFixture[str], where: str, found: str, remedy: str) -> None:
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert printed.err.startswith(f"fxq: {where}")
    _, _, rest = printed.err.partition("\n  found: ")
    said, _, advised = rest.partition("\n  do: ")
    assert found in f"{said}\n"
    assert remedy in advised


def test_debug_shows_the_traceback(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXQ_DEBUG", "1")
    assert _quantize(batches="zoo:breaking") == 2
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last)" in printed and 'raise FileNotFoundError("images.npy")' in printed


def test_an_error_of_ours_keeps_its_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise AssertionError("a broken promise")

    monkeypatch.setattr(cli, "quantize", fails)
    with pytest.raises(AssertionError, match="a broken promise"):
        _quantize()


def test_failed_save_leaves_the_old_file(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "model.pt").write_text("old")

    def half(model: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    assert _quantize() == 2
    _check_error(capsys, "model.pt", "No space left on device", "another place")
    assert (folder / "model.pt").read_text() == "old"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_file_is_replaced_at_once(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "model.pt").write_text("old")

    def fails(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", fails)
    assert _quantize() == 2
    _check_error(capsys, "model.pt", "Operation not permitted", "another place")
    assert (folder / "model.pt").read_text() == "old"


def test_options_are_written_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    """So that a new option does not change what an old command line means."""
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--se", "3"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --se 3" in capsys.readouterr().err


def test_interrupt_is_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_graph", interrupted)
    assert main(["graph", "model.pt"]) == 130
    assert capsys.readouterr() == ("", "")


def test_closed_pipe_is_quiet() -> None:
    """In a process of its own: standard output is the process's."""
    script = "import sys\nfrom fxq import cli\ncli._graph = lambda _: sys.stdout.write('x' * 10**6)\nsys.exit(cli.main(['graph', 'x']))"
    environment = {**os.environ, "PYTHONPATH": str(Path(fxq.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
