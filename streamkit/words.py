"""What the small languages of expressions and patterns share: words with their places, and texts with stars. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from streamkit.errors import ExpressionError


class Token(msgspec.Struct, frozen=True):
    """One word."""

    sort: str
    text: str
    at: int
    """Where it begins, from 0."""


def words_of(text: str, words: re.Pattern[str], instead: Mapping[str, str]) -> Iterator[Token]:
    """The words of a text, and at last one of the sort "end".

    Args:
        text: What somebody wrote.
        words: Its groups are named after the sorts of words; what the group "space" has is none.
        instead: What to write instead of a character that no word begins with.

    Raises:
        ExpressionError: there is no word, or a character that none begins with; when the words before it were taken.
    """
    at = 0
    is_empty = True
    while at < len(text):
        match = words.match(text, at)
        if match is None:
            advice = instead.get(text[at])
            raise ExpressionError(text, at, f"unexpected {text[at]!r}" + (f": {advice}" if advice else ""))
        sort = match.lastgroup or ""
        if sort != "space":
            is_empty = False
            yield Token(sort, match.group(), at)
        at = match.end()
    if is_empty:
        raise ExpressionError(text, 0, "it is empty")
    yield Token("end", "the end", len(text))


def with_stars(pieces: Sequence[str]) -> Callable[[str], bool]:
    """Whether a text is these pieces, of which there are two at least, with anything between one and the next.

    Each at its first place, which no later piece can regret: linear in the text. A regular expression may try all.
    """
    first, *middle, last = pieces
    least = len(first) + len(last)

    def matches(text: str) -> bool:
        if len(text) < least or not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for piece in middle:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    return matches
