"""Files that commands read and write."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from fxq.cli.python_objects import look_here
from fxq.errors import DataError
from fxq.files import load, save
from fxq.graph.module import FxqModule
from fxq.qconfig_mapping import QConfigMapping

# torch's own: they name code, and loading runs it
_PICKLES = (".pt", ".pth")

ABOUT_FILES = """\
A file holds the graph and its tensors, and no code: it is safe to load.
A name that ends in .pt is for torch.save, which takes any model: loading such
a file runs code that it names, so load only files that you trust.
"""


def require_writable(path: Path | None, example: str = "model.fxq") -> None:
    """Before work that takes long, rather than after it. Raises DataError."""
    if path is None:
        return
    if path.is_dir():
        raise DataError(str(path), expected="the name of a file", found="a folder", remedy=f"write {path / example}, for example")
    if not path.absolute().parent.is_dir():
        raise DataError(str(path), expected="a file in an existing folder", found=f"no folder {path.parent}", remedy="make the folder")


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Into a file beside it, which then takes its place: whatever happens, there is a whole file or none. Raises DataError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise DataError(str(path), expected="a file that can be written", found=str(error), remedy="choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A text and a line break, as a whole."""
    write_whole(path, lambda place: _write_text(place, f"{text}\n"))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def read_mapping(path: Path | None) -> QConfigMapping | None:
    """A QConfigMapping as JSON. Raises DataError, and ConfigError for what is none."""
    if path is None:
        return None
    try:
        return QConfigMapping.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), expected="a text file", found=str(error), remedy="check the name") from error


def save_model(model: FxqModule, path: Path) -> None:
    """As fxq.save does; for a name that ends in .pt as torch.save. Raises DataError, FileError."""
    if path.suffix in _PICKLES:
        write_whole(path, lambda place: _pickle(model, place))
    else:
        save(model, path)


def _pickle(model: FxqModule, path: Path) -> None:
    with path.open("wb") as file:
        torch.save(model, file)


def load_model(path: Path, runtime: str = "auto") -> FxqModule:
    """What `save_model` has saved. Raises DataError, FileError."""
    if path.suffix not in _PICKLES:
        return load(path, runtime=runtime)
    look_here()  # it may name functions of the user's
    expected = "a model that fxq quantize has saved"
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise DataError(str(path), expected=expected, found=f"{type(error).__name__}: {error}", remedy="check the name") from error
    if not isinstance(model, FxqModule):
        raise DataError(str(path), expected=expected, found=type(model).__name__, remedy="pass the file that --out named")
    return model
