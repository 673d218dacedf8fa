"""Pages that are run from top to bottom. After a change of what is printed: python -m tests.docs.pages"""

from __future__ import annotations

import io
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from benchmarks.architectures import import_models
from fxq.cli import main
from tests.docs.blocks import DOCS, FENCED, README, Block, read_blocks

_NAMES = ("quickstart", "tour", "compare", "sensitivity", "visualize", "testing", "dynamic", "hugging_face", "qat", "cli")
import_models()  # transformers imports torchvision
PAGES = (README, *(DOCS / f"{name}.md" for name in _NAMES))

# file in docs/pictures → the variable of the tour that it shows, and its title
PICTURES = {"compare.svg": ("comparison", "print(comparison)"), "sensitivity.svg": ("found", "print(found)")}
_COLUMNS = 120


@dataclass
class Run:
    """Runs the blocks of a page in the current directory.

    Attributes:
        namespace: what its Python has defined.
    """

    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "documentation"})

    def printed(self, blocks: list[Block]) -> Iterator[tuple[Block, str]]:
        """For each block of the option "printed": what Python since the last one, or the last command, has printed."""
        text = ""
        for block in blocks:
            if block.option == "printed":
                yield block, text
                text = ""
            elif block.language == "python":
                text += self._run_python(block)
            elif block.language == "sh":
                *_, text = map(_run_command, block.text.splitlines())

    def _run_python(self, block: Block) -> str:
        kind, _, name = block.option.partition("=")
        if kind == "file":
            Path(name).write_text(block.text)
            return ""
        with redirect_stdout(io.StringIO()) as output:
            exec(compile(block.text, "<documentation>", "exec"), self.namespace)  # the page's own code
        return output.getvalue()


def _run_command(line: str) -> str:
    program, *arguments = shlex.split(line)
    assert program == "fxq"
    with redirect_stdout(io.StringIO()) as output:
        assert main(arguments) == 0, line
    return output.getvalue()


def rewrite(page: Path) -> Run:
    """Puts what is printed into the page."""
    document, run = page.read_text(encoding="utf-8"), Run()
    texts = iter([f"```text printed\n{text.rstrip()}\n```" for _, text in run.printed(read_blocks(document))])
    page.write_text(FENCED.sub(lambda match: next(texts) if match["head"] == "text printed" else match[0], document), encoding="utf-8")
    return run


def draw(what: RenderableType, title: str, path: Path) -> None:
    """What a terminal shows, as SVG."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(what)
    path.write_text(console.export_svg(title=title), encoding="utf-8")


if __name__ == "__main__":
    for page in PAGES:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            sys.path.insert(0, folder)
            sys.modules.pop("zoo", None)
            run = rewrite(page)
            for name, (variable, title) in PICTURES.items() if page.stem == "tour" else ():
                draw(run.namespace[variable], title, DOCS / "pictures" / name)
