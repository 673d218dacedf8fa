"""Lines of the user's code, for messages."""

from __future__ import annotations

import inspect
import linecache
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

import torch

# frames of these files are torch's, ours and Python's, not the user's
_NOT_USER_CODE = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parents[1]}{os.sep}")
_STANDARD_LIBRARY = Path(sysconfig.get_paths()["stdlib"])
_INSTALLED = {"site-packages", "dist-packages"}  # folders inside of it


@dataclass(frozen=True)
class Line:
    """A line of source.

    Attributes:
        place: "file.py:12"
        code: its text.
    """

    place: str
    code: str


@cache
def is_user_code(filename: str) -> bool:
    """Whether a stack frame's file is the user's: not torch's, not fxq's, not Python's, and a file at all."""
    return not filename.startswith((*_NOT_USER_CODE, "<")) and not _is_standard(Path(filename))


def _is_standard(path: Path) -> bool:
    return path.is_relative_to(_STANDARD_LIBRARY) and _INSTALLED.isdisjoint(path.relative_to(_STANDARD_LIBRARY).parts)


def user_frame(within: CodeType) -> FrameType | None:
    """The innermost frame that is the user's, of those that `within` has called; None where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_user_code(frame.f_code.co_filename):
        frame = None if frame.f_code is within else frame.f_back
    return frame


def user_line(within: CodeType) -> Line | None:
    """The line of the user's that is being run there."""
    frame = user_frame(within)
    return None if frame is None else _line(frame.f_code.co_filename, frame.f_lineno)


def definition_of(function: Callable[..., object]) -> str:
    """file.py:12: where the function is written; "" where that is not known."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno}"


def line_of_error(error: Exception) -> Line | None:
    """The innermost line of the user's in an error's traceback."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_user_code(frame.filename)]
    return _line(frames[-1].filename, frames[-1].lineno or 0) if frames else None


def _line(filename: str, number: int) -> Line:
    return Line(f"{filename}:{number}", linecache.getline(filename, number).strip())
