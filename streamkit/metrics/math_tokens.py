"""The words of a metric math expression, with their positions. Pure."""

from __future__ import annotations

import re

from streamkit.errors import ExpressionError
from streamkit.words import Token, words_of

MAX_CHARACTERS = 2048
"""Of one expression, as ``MetricDataQuery`` of the CloudWatch API reference has it."""

_WORDS = re.compile(
    r"""(?P<space>\s+)
      | (?P<id>[a-z][A-Za-z0-9_]*)
      | (?P<word>[A-Z][A-Za-z0-9_]*)
      | (?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)
      | (?P<string>"[^"]*"|'[^']*')
      | (?P<mark>==|!=|<=|>=|&&|\|\||[-+*/^<>(),\[\]])""",
    re.VERBOSE | re.ASCII,
)
"""An id begins with a lower-case letter, a word (of the language) with a capital."""
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


def tokens_of(text: str) -> list[Token]:
    """The words, a string without its quotes, and at last one of the sort "end".

    Raises:
        ExpressionError: it is too long, empty, or has a character that no expression has.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(
            text[:80], 0, f"an expression has at most {MAX_CHARACTERS:,} characters, not {len(text):,}"
        )
    found: list[Token] = []
    for token in words_of(text, _WORDS, _INSTEAD):
        if token.sort == "string":
            token = Token("string", token.text[1:-1], token.at)
        elif token.sort == "number":
            end = token.at + len(token.text)
            # Without this, 2m1 would be read as 2 and m1, and 1e3 as 1 and the id e3.
            if re.match(r"[A-Za-z_.]", text[end : end + 1]):
                raise ExpressionError(text, end, "a number ends here: write an operator such as * after it")
        found.append(token)
    return found
