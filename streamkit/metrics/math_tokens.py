"""The words of a metric math expression, with their positions. Pure."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from streamkit.errors import ExpressionError

MAX_CHARACTERS = 2048
"""Of one expression, as ``MetricDataQuery`` of the CloudWatch API reference has it."""

Sort = Literal["id", "word", "number", "string", "mark", "end"]
"""An id begins with a lower-case letter, a word (of the language) with a capital."""

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<id>[a-z][A-Za-z0-9_]*)
      | (?P<word>[A-Z][A-Za-z0-9_]*)
      | (?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)
      | (?P<string>"[^"]*"|'[^']*')
      | (?P<mark>==|!=|<=|>=|&&|\|\||[-+*/^<>(),\[\]])""",
    re.VERBOSE | re.ASCII,
)
_SORTS: dict[str, Sort] = {"id": "id", "word": "word", "number": "number", "string": "string", "mark": "mark"}
_INSTEAD = {
    "=": "compare with ==",
    "!": "compare with !=",
    "&": "write && or AND",
    "|": "write || or OR",
    '"': 'this string has no end: add "',
    "'": "this string has no end: add '",
    "_": "an id starts with a lower-case letter",
    "“": 'write strings in straight quotes, "like this"',
    "”": 'write strings in straight quotes, "like this"',
}


class Token(msgspec.Struct, frozen=True):
    """One word."""

    sort: Sort
    text: str
    """As it is written; of a string what is between the quotes."""
    at: int
    """Where it begins, from 0."""


def tokens_of(text: str) -> list[Token]:
    """The words, and at last one of the sort "end".

    Raises:
        ExpressionError: it is too long, empty, or has a character that no expression has.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(
            text[:80], 0, f"an expression has at most {MAX_CHARACTERS:,} characters, not {len(text):,}"
        )
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            instead = _INSTEAD.get(text[at])
            raise ExpressionError(text, at, f"unexpected {text[at]!r}" + (f": {instead}" if instead else ""))
        if match.lastgroup != "space":
            sort = _SORTS[match.lastgroup or ""]
            # Without this, 2m1 would be read as 2 and m1, and 1e3 as 1 and the id e3.
            if sort == "number" and re.match(r"[A-Za-z_.]", text[match.end() : match.end() + 1]):
                raise ExpressionError(text, match.end(), "a number ends here: write an operator such as * after it")
            word = match.group()
            found.append(Token(sort, word[1:-1] if sort == "string" else word, at))
        at = match.end()
    if not found:
        raise ExpressionError(text, 0, "it is empty")
    found.append(Token("end", "the end", len(text)))
    return found
