"""Fenced blocks of the documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.meta.source import REPOSITORY

DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"

FENCED = re.compile(r"^```(?P<head>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """```language option=value, and the text up to the closing fence."""

    language: str
    option: str
    text: str


def read_blocks(document: str) -> list[Block]:
    """All fenced blocks in order."""
    heads = [(match["head"].partition(" "), match["text"]) for match in FENCED.finditer(document)]
    return [Block(language, option, text) for (language, _, option), text in heads]


def replace_blocks(document: str, texts: dict[str, str]) -> str:
    """The document with other texts in the blocks that have these options."""

    def replaced(match: re.Match[str]) -> str:
        option = match["head"].partition(" ")[2]
        return f"```{match['head']}\n{texts[option]}```" if option in texts else match[0]

    return FENCED.sub(replaced, document)
