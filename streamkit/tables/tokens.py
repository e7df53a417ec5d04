"""The words of an expression, with their positions. Pure."""

from __future__ import annotations

import re

from streamkit.errors import ExpressionError
from streamkit.words import Token, words_of

MAX_CHARACTERS = 4096

_WORDS = re.compile(
    r"""(?P<space>\s+)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<alias>\#[A-Za-z0-9_]+)
      | (?P<value>:[A-Za-z0-9_]+)
      | (?P<number>[0-9]+)
      | (?P<mark><>|<=|>=|[=<>(),.\[\]+-])""",
    re.VERBOSE | re.ASCII,
)


def tokens_of(text: str) -> list[Token]:
    """The words, and at last one of the sort "end".

    Raises:
        ExpressionError: it is too long, empty, or has a character that no expression has.
    """
    if len(text.encode(errors="replace")) > MAX_CHARACTERS:
        raise ExpressionError(text[:80], 0, f"an expression has at most {MAX_CHARACTERS:,} bytes, not {len(text):,}")
    return list(words_of(text, _WORDS, {}))
