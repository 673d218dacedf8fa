"""What docs/debugging.md lists is what there is."""

from __future__ import annotations

import re

import fxq
from fxq.api import LOWER
from fxq.errors import FxqError
from fxq.graph.reasons import Why
from fxq.passes import CONVERT, PREPARE
from tests.docs.blocks import DOCS
from tests.meta.source import PACKAGE, read_package

PAGE = (DOCS / "debugging.md").read_text(encoding="utf-8")


def test_environment_variables() -> None:
    used = {name for module in read_package(PACKAGE) for name in re.findall(r"environ\.get\(\"(\w+)\"", module.text)}
    reads = sum(module.text.count("os.environ") for module in read_package(PACKAGE))
    assert used == {"FXQ_DUMP", "FXQ_DEBUG", "FXQ_RUNTIME", "FXQ_ISA", "FXQ_UPDATE_SNAPSHOTS"}
    assert set(re.findall(r"^\| `(FXQ_\w+)` \|", PAGE, re.MULTILINE)) == used
    assert reads == len(used) + 2  # FXQ_DEBUG twice, and oneDNN's own, in runtime/integer/matmul.py


def test_passes() -> None:
    prepare = ", ".join(step.name for step in PREPARE)
    convert = ", ".join(step.name for step in (*CONVERT, *LOWER))
    assert f"{prepare} (these are `prepare_fx`), {convert} (these are `convert_fx`)" in PAGE.replace("\n", " ")


def test_error_classes() -> None:
    exported = {name for name in fxq.__all__ if isinstance(kind := getattr(fxq, name), type) and issubclass(kind, FxqError)}
    assert set(re.findall(r"^\| `(\w+Error)` \|", PAGE, re.MULTILINE)) == exported - {"FxqError"}


def test_kinds_of_reasons() -> None:
    table = PAGE.partition("| kind | meaning | remedy |\n|---|---|---|\n")[2].partition("\n\n")[0]
    listed = [kind for row in table.splitlines() for kind in row.split(" | ")[0].removeprefix("| ").split(", ")]
    assert sorted(listed) == sorted(why.value for why in Why)
