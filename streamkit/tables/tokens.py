"""The words of an expression, with their positions. Pure."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from streamkit.errors import ExpressionError

MAX_CHARACTERS = 4096
Sort = Literal["name", "#", ":", "number", "mark", "end"]

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<alias>\#[A-Za-z0-9_]+)
      | (?P<value>:[A-Za-z0-9_]+)
      | (?P<number>[0-9]+)
      | (?P<mark><>|<=|>=|[=<>(),.\[\]+-])""",
    re.VERBOSE | re.ASCII,
)
_SORTS: dict[str, Sort] = {"name": "name", "alias": "#", "value": ":", "number": "number", "mark": "mark"}


class Token(msgspec.Struct, frozen=True):
    """One word."""

    sort: Sort
    text: str
    at: int
    """Where it begins, from 0."""


def tokens_of(text: str) -> list[Token]:
    """The words, and at last one of the sort "end".

    Raises:
        ExpressionError: it is too long, empty, or has a character that no expression has.
    """
    if len(text.encode(errors="replace")) > MAX_CHARACTERS:
        raise ExpressionError(text[:80], 0, f"an expression has at most {MAX_CHARACTERS:,} bytes, not {len(text):,}")
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(text, at, f"unexpected {text[at]!r}")
        if match.lastgroup != "space":
            found.append(Token(_SORTS[match.lastgroup or ""], match.group(), at))
        at = match.end()
    if not found:
        raise ExpressionError(text, 0, "it is empty")
    found.append(Token("end", "the end", len(text)))
    return found
