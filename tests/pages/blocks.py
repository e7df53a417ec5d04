"""The fenced blocks of a page, and which of them somebody runs.

- ``python``: run in the page's order, in one namespace; ``await`` is allowed, as in a notebook. With a title it is a
  file of that name, which an ``sh`` block of the page runs.
- ``sh``: commands, see ``tests.pages.commands``. Titled ``exits with N`` where that is what the last one does.
- ``text`` titled ``output``: what the block before it printed; ``...`` stands for anything, line breaks for blanks.
- ``toml``, ``yaml``, ``json``: are read. ``text`` without a title: a picture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = ("python", "sh")
READ = ("toml", "yaml", "json")
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`]*)$")
_TITLE = re.compile(r'title="([^"]*)"')


@dataclass(frozen=True)
class Block:
    """One of them: its language, its title, its text, and the line of the page on which that begins."""

    language: str
    title: str
    text: str
    line: int


def pages() -> list[Path]:
    """All of them: the README and what is in ``docs``."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page, in order; those in lists and notes, which are indented, too."""
    found: list[Block] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opened = _FENCE.match(lines[at])
        at += 1
        if opened is None:
            continue
        begin = at
        while at < len(lines) and lines[at].strip() != opened["fence"]:
            at += 1
        if at == len(lines):
            raise ValueError(f"the block of line {begin} is not closed")
        inside = [line.removeprefix(opened["indent"]) for line in lines[begin:at]]
        at += 1
        info = opened["info"].strip()
        title = _TITLE.search(info)
        language = info.split(maxsplit=1)[0] if info else ""
        found.append(Block(language, title[1] if title else "", "\n".join(inside) + "\n", begin + 1))
    return found


def faults(blocks: Sequence[Block]) -> list[str]:
    """What nobody would run: each block that is of no known kind, or in a place where nothing looks at it."""
    found = []
    shell = "\n".join(block.text for block in blocks if block.language == "sh")
    ran = False
    for block in blocks:
        if block.language not in (*RUN, *READ, "text"):
            found.append(f"line {block.line}: nobody runs a block of {block.language or 'no language'!r}")
        elif block.language == "text" and block.title not in ("", "output"):
            found.append(f"line {block.line}: nobody compares a text called {block.title!r}: call it output")
        elif block.language == "text" and block.title and not ran:
            found.append(f"line {block.line}: an output without anything that prints it before")
        elif block.language == "python" and block.title and f"python {block.title}" not in shell:
            found.append(f"line {block.line}: no sh block of the page runs {block.title!r}")
        if block.language in RUN:
            ran = True
        elif block.title == "output":
            ran = False
    return found
