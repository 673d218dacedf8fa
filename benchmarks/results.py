"""Writing what was measured, with the machine it was measured on."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

_FOLDERS = re.compile(r"(?<!\w)/\S*/")


def write_json(path: str | None, rows: Sequence[Any]) -> None:
    """Rows and machine as JSON; nothing where path is None."""
    if path is not None:
        Path(path).write_text(json.dumps({"machine": machine(), "rows": list(rows)}, indent=2) + "\n", encoding="utf-8")


def replace_between_marks(path: str, script: str, lines: Sequence[str]) -> None:
    """Writes what a script has measured into a page, between two marks; the text around them is written by hand."""
    begin, end = f"<!-- written by {script} -->", "<!-- end -->"
    before, _, rest = Path(path).read_text(encoding="utf-8").partition(begin)
    Path(path).write_text(before + "\n".join([begin, *lines, end]) + rest.partition(end)[2], encoding="utf-8")


def without_folders(message: str) -> str:
    """The message without the folders of this machine."""
    return _FOLDERS.sub("", message)


def machine() -> dict[str, str | int | None]:
    """What a time depends on besides the code."""
    return {
        "cpu": _cpu_name(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
