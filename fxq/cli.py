"""The command `fxq`: the demo, quantizing one's own model, and looking at the result."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from operator import length_hint
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from fxq.api import quantize
from fxq.demo.qat import QATRecipe, run_qat_demo
from fxq.demo.run import run_demo
from fxq.demo.train import Recipe
from fxq.errors import ConfigError, DataError, FxqError
from fxq.graph.module import FxqModule
from fxq.graph.text import print_graph
from fxq.lowering.profiles import PROFILES, find_profile
from fxq.qconfig_mapping import QConfigMapping
from fxq.report import report
from fxq.visualize import to_dot

_USER_ERROR, _INTERRUPTED = 2, 130
_PACKAGE = str(Path(__file__).parent)

_EXAMPLES = """\
examples:
  fxq demo
  fxq qat-demo
  fxq quantize zoo:build_model --calibrate zoo:batches --out model.pt
  fxq report model.pt
  fxq graph model.pt --dot | dot -Tsvg > model.svg
"""

_QUANTIZE = """\
Quantizes a model of yours. Model and batches are named by the Python that
makes them, with the current directory on the path:

  zoo:build_model   a function without arguments that returns an nn.Module,
                    or the module itself
  zoo:batches       an iterable of the inputs that the model takes, or a
                    function without arguments that returns one

A batch is a tensor, a tuple of positional inputs or a dict of keyword
inputs, without labels. Some hundred samples like those of use are enough.

The model is saved with torch.save. Load it with
torch.load("model.pt", weights_only=False), which runs code that the file
names: load only files that you trust.
"""

_DEMO = """\
Trains two small networks on scikit-learn's images of digits, quantizes each
in three ways, and compares them. Takes one to two minutes.
"""

_QAT_DEMO = """\
Trains a small MobileNetV2 on distorted images of digits, quantizes it by
calibration and by training, and prints what each way loses. Takes some
minutes.
"""

_REPORT = """\
Prints what became of every layer of a saved model, and why.
Loading a model runs code that its file names.
"""

_GRAPH = """\
Prints the graph of a saved model.
Loading a model runs code that its file names.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line (sys.argv where None is given).

    Returns:
        the exit code: 0, or 2 for an error in what the user gave. FXQ_DEBUG=1 shows the traceback of such an error.
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except FxqError as error:
        if os.environ.get("FXQ_DEBUG") == "1":
            traceback.print_exc()
        sys.stderr.write(f"fxq: {error}\n")
        return _USER_ERROR
    except BrokenPipeError:
        # the reader of a pipe has gone (`fxq graph model.pt | head`): nothing may be written when the interpreter ends, either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


# --- arguments -------------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Descriptions are printed as they are written, and options are written in full."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)


def _parser() -> argparse.ArgumentParser:
    version = f"fxq {importlib.import_module('fxq').__version__}, torch {torch.__version__}"
    parser = _Parser(prog="fxq", description="Quantizes PyTorch models to int8 for CPUs.", epilog=_EXAMPLES)
    parser.add_argument("--version", action="version", version=version)
    parser.set_defaults(run=lambda _: parser.print_help())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)
    _add_demo(commands)
    _add_qat_demo(commands)
    _add_quantize(commands)
    _add_report(commands)
    _add_graph(commands)
    return parser


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser("demo", help="train, quantize and compare two small networks", description=_DEMO)
    parser.add_argument("--out", type=Path, default=Path("fxq-demo"), metavar="DIR", help="folder for results (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the training (default: %(default)s)")
    parser.set_defaults(run=_demo)


def _add_qat_demo(commands: Any) -> None:
    parser = commands.add_parser("qat-demo", help="what training gains over calibration", description=_QAT_DEMO)
    parser.add_argument("--seed", type=int, default=0, help="of distortions and training (default: %(default)s)")
    parser.set_defaults(run=_qat_demo)


def _add_quantize(commands: Any) -> None:
    profiles = " or ".join(row.name for row in PROFILES)
    parser = commands.add_parser("quantize", help="quantize a model of yours", description=_QUANTIZE)
    parser.add_argument("model", metavar="MODULE:NAME", help="what makes the model, such as zoo:build_model")
    parser.add_argument("--calibrate", required=True, metavar="MODULE:NAME", help="the batches to calibrate with")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="where to save the int8 model")
    parser.add_argument("--profile", default="x86", help=f"{profiles} (default: %(default)s)")
    parser.add_argument("--qconfig", type=Path, metavar="FILE", help="a QConfigMapping as JSON (default: the profile's own)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="where to write the report, one row for every layer")
    parser.set_defaults(run=_quantize)


def _add_report(commands: Any) -> None:
    parser = commands.add_parser("report", help="what became of every layer of a saved model", description=_REPORT)
    parser.add_argument("model", type=Path, metavar="FILE", help="a model saved by fxq quantize, and trusted")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_report)


def _add_graph(commands: Any) -> None:
    parser = commands.add_parser("graph", help="the graph of a saved model, as text or DOT", description=_GRAPH)
    parser.add_argument("model", type=Path, metavar="FILE", help="a model saved by fxq quantize, and trusted")
    parser.add_argument("--dot", action="store_true", help="for graphviz")
    parser.set_defaults(run=_graph)


# --- commands --------------------------------------------------------------------------------------------------------------


def _demo(arguments: argparse.Namespace) -> None:
    run_demo(arguments.out, Console(), Recipe(seed=arguments.seed))


def _qat_demo(arguments: argparse.Namespace) -> None:
    run_qat_demo(Console(), QATRecipe(seed=arguments.seed))


def _quantize(arguments: argparse.Namespace) -> None:
    find_profile(arguments.profile)
    for path in (arguments.out, arguments.report):
        _require_writable(path)
    mapping = None if arguments.qconfig is None else QConfigMapping.from_json(_read_text(arguments.qconfig))
    sys.path.insert(0, os.getcwd())
    model, batches = _build_model(arguments.model), _find_batches(arguments.calibrate)
    quantized = quantize(model, batches, arguments.profile, qconfig_mapping=mapping)
    _write(arguments.out, lambda path: _save(quantized, path))
    made = report(quantized)
    if arguments.report is not None:
        _write(arguments.report, lambda path: _write_text(path, str(made)))
    sys.stdout.write(f"{made.summary()}\n\nsaved {arguments.out} ({arguments.out.stat().st_size / 1000:,.1f} kB)\n")


def _report(arguments: argparse.Namespace) -> None:
    made = report(_load(arguments.model))
    sys.stdout.write(f"{made.to_json() if arguments.json else made}\n")


def _graph(arguments: argparse.Namespace) -> None:
    model = _load(arguments.model)
    sys.stdout.write(to_dot(model) if arguments.dot else print_graph(model))


# --- the user's Python -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Batches:
    """The user's batches; an error inside them is one of the user's."""

    source: Iterable[Any]
    where: str

    def __iter__(self) -> Iterator[Any]:
        with _user_code(self.where, "batches that can be read to the end"):
            yield from self.source

    def __length_hint__(self) -> int:
        return length_hint(self.source)


def _build_model(target: str) -> nn.Module:
    found = _find(target)
    if not isinstance(found, nn.Module):
        found = _called(found, target, "a function without arguments that returns an nn.Module")
    if isinstance(found, nn.Module):
        return found
    raise ConfigError(
        target, expected="an nn.Module", found=f"{type(found).__name__} {found!r}"[:200], remedy="return the model from this function"
    )


def _find_batches(target: str) -> _Batches:
    expected = "an iterable of batches, or a function without arguments that returns one"
    found = _find(target)
    if not isinstance(found, Iterable):
        found = _called(found, target, expected)
    if isinstance(found, Iterable) and not isinstance(found, torch.Tensor | str | bytes):
        return _Batches(found, target)
    remedy = "put it into a list: a list of one tensor is one batch" if isinstance(found, torch.Tensor) else "return a list or a DataLoader"
    raise ConfigError(target, expected=expected, found=type(found).__name__, remedy=remedy)


def _called(found: Any, target: str, expected: str) -> Any:
    if not callable(found):
        raise ConfigError(target, expected=expected, found=type(found).__name__, remedy="name a function")
    with _user_code(target, expected):
        return found()


def _find(target: str) -> Any:
    """'pkg.module:name' → the object."""
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise ConfigError(target, expected="MODULE:NAME", found=repr(target), remedy="write, for example, zoo:build_model for zoo.py")
    found: Any = _import(module_name, target)
    for part in name.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, [each for each in dir(found) if not each.startswith("_")], n=1)
            remedy = f"write {near[0]!r}" if near else "check the spelling"
            raise ConfigError(target, expected=f"{part!r} in {module_name}", found="no such name", remedy=remedy)
        found = getattr(found, part)
    return found


def _import(module_name: str, target: str) -> Any:
    try:
        with _user_code(target, f"a module {module_name} that can be imported"):
            return importlib.import_module(module_name)
    except FxqError as error:
        missing = error.__cause__.name if isinstance(error.__cause__, ModuleNotFoundError) else None
        if missing is None or not f"{module_name}.".startswith(f"{missing}."):
            raise
        raise ConfigError(
            target,
            expected=f"a module {module_name} in {os.getcwd()} or among the installed packages",
            found=f"no module named {missing!r}",
            remedy="run fxq in the folder that holds it, and write it with dots and without .py",
        ) from error.__cause__


@contextmanager
def _user_code(where: str, expected: str) -> Iterator[None]:
    """What the user's code raises → an error that says so, with the line it comes from."""
    try:
        yield
    except FxqError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {error}{_place(error)}"
        raise ConfigError(where, expected=expected, found=found, remedy="correct it; FXQ_DEBUG=1 shows the whole traceback") from error


def _place(error: Exception) -> str:
    """The innermost line of the user's that the error comes from; "" where it is none of theirs."""
    if isinstance(error, SyntaxError):
        return ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith((_PACKAGE, "<"))]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


# --- files -----------------------------------------------------------------------------------------------------------------


def _require_writable(path: Path | None) -> None:
    """Before calibration, rather than after it."""
    if path is None:
        return
    if path.is_dir():
        raise DataError(str(path), expected="the name of a file", found="a folder", remedy=f"write {path / 'model.pt'}, for example")
    if not path.absolute().parent.is_dir():
        raise DataError(str(path), expected="a file in an existing folder", found=f"no folder {path.parent}", remedy="make the folder")


def _write(path: Path, write: Callable[[Path], None]) -> None:
    """Into a file beside it, which then takes its place: whatever happens, there is a whole file or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise DataError(str(path), expected="a file that can be written", found=str(error), remedy="choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_text(path: Path, text: str) -> None:
    path.write_text(f"{text}\n", encoding="utf-8")


def _save(model: FxqModule, path: Path) -> None:
    with path.open("wb") as file:
        torch.save(model, file)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), expected="a text file", found=str(error), remedy="check the name") from error


def _load(path: Path) -> FxqModule:
    sys.path.insert(0, os.getcwd())  # a model may name functions of the user's
    expected = "a model that fxq quantize has saved"
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise DataError(str(path), expected=expected, found=f"{type(error).__name__}: {error}", remedy="check the name") from error
    if not isinstance(model, FxqModule):
        raise DataError(str(path), expected=expected, found=type(model).__name__, remedy="pass the file that --out named")
    return model
