"""Lines of the user's code, for messages."""

from __future__ import annotations

import inspect
import linecache
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

# frames of these files are torch's and ours, not the user's
_NOT_USER_CODE = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parents[1]}{os.sep}")


@dataclass(frozen=True)
class Line:
    """A line of source.

    Attributes:
        place: "file.py:12"
        code: its text.
    """

    place: str
    code: str


def is_user_code(filename: str) -> bool:
    """Whether a stack frame's file is the user's: not torch's, not fxq's, and a file at all."""
    return not filename.startswith((*_NOT_USER_CODE, "<"))


def user_frame() -> FrameType | None:
    """The innermost frame that is the user's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_user_code(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def user_line() -> Line | None:
    """The line of the user's that is being run; None where there is none."""
    frame = user_frame()
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
