"""What a filter pattern asks of one value, and how such questions are joined; for JSON and space-delimited patterns.

Follows "Filter pattern syntax for metric filters, subscription filters, filter log events" of the CloudWatch Logs
user guide.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

from streamkit.metrics.filter_tokens import MAX_NESTING, Cursor, Search
from streamkit.words import with_stars

Number = int | float
Test = Callable[[Any], bool]
"""Of one value: a string, a number or a boolean."""

OPERATORS = ("!=", ">=", "<=", "=", ">", "<")
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,300}", re.ASCII)
_ENDS_A_WORD = frozenset('"%&|(){}[],=<>!')


def number(text: str) -> Number | None:
    """The finite number that ``text`` is, or None."""
    if _INTEGER.fullmatch(text):
        return int(text)
    if not _NUMBER.fullmatch(text):
        return None
    found = float(text)
    return found if math.isfinite(found) else None


def shown(value: object) -> str | None:
    """A string, number or boolean as text; None for anything else: null, arrays and objects are no values."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return repr(value) if isinstance(value, (int, float)) else None
    except ValueError:
        # Python writes no whole numbers of thousands of digits.
        return None


def read_test(cursor: Cursor, *, texts_are_numbers: bool) -> Test:
    """Read an operator and what follows it.

    Args:
        cursor: At the operator.
        texts_are_numbers: Whether a string that reads as a number is one, as in a space-delimited line.

    Raises:
        ExpressionError: with the position.
    """
    cursor.blanks()
    sign = cursor.take_any(OPERATORS)
    if not sign:
        cursor.fail(f"an operator must follow, one of {' '.join(OPERATORS)}, found {cursor.found()}")
    cursor.blanks()
    at = cursor.at
    if sign in _ORDERS:
        word = cursor.word(_within_a_word)
        bound = number(word)
        if bound is None:
            cursor.fail(f"{sign} takes a number, such as {sign} 1000", at)
        return _ordered(_ORDERS[sign], bound, texts_are_numbers=texts_are_numbers)
    equal = _read_equality(cursor, texts_are_numbers=texts_are_numbers)
    if sign == "=":
        return equal
    return lambda value: shown(value) is not None and not equal(value)


def _within_a_word(character: str) -> bool:
    return not character.isspace() and character not in _ENDS_A_WORD


def _read_equality(cursor: Cursor, *, texts_are_numbers: bool) -> Test:
    if cursor.next == "%":
        return _of_text(cursor.regex())
    if cursor.next == '"':
        characters = cursor.quoted()
        if texts_are_numbers:
            return _of_text(_wildcards(characters))
        found = _wildcards(characters)
        return lambda value: isinstance(value, str) and bool(found(value))
    word = cursor.word(_within_a_word)
    if not word:
        cursor.fail(f"a value must follow: a number, a word, a string in quotes or %regex%, found {cursor.found()}")
    wanted = number(word)
    if wanted is None:
        return _of_text(_wildcards(list(word)))
    if texts_are_numbers:
        return lambda value: value == word or number(value) == wanted
    return lambda value: (value == wanted and not isinstance(value, bool)) or value == word


def _of_text(search: Search) -> Test:
    def test(value: object) -> bool:
        text = shown(value)
        return text is not None and bool(search(text))

    return test


def _ordered(order: Callable[[Any, Any], bool], bound: Number, *, texts_are_numbers: bool) -> Test:
    def test(value: object) -> bool:
        if isinstance(value, str) and texts_are_numbers:
            value = number(value)
        return isinstance(value, (int, float)) and not isinstance(value, bool) and order(value, bound)

    return test


def plain_text(characters: list[str]) -> str:
    """What is between the quotes, without its escapes."""
    return "".join(character[-1] if len(character) == 2 else character for character in characters)


def _wildcards(characters: list[str]) -> Search:
    """Whether the whole text is as these characters say, of which each ``*`` stands for any text."""
    pieces: list[str] = [""]
    for character in characters:
        if character == "*":
            pieces.append("")
        else:
            pieces[-1] += character[-1]
    if len(pieces) == 1:
        (only,) = pieces
        return lambda text: text == only
    return with_stars(pieces)


def read_joined(cursor: Cursor, read_one: Callable[[], Test], depth: int = 0) -> Test:
    """Read what ``&&``, ``||`` and parentheses join: ``()`` before ``&&`` before ``||``."""
    choices = [_read_all(cursor, read_one, depth)]
    while _taken(cursor, "||"):
        choices.append(_read_all(cursor, read_one, depth))
    return choices[0] if len(choices) == 1 else lambda value: any(choice(value) for choice in choices)


def _read_all(cursor: Cursor, read_one: Callable[[], Test], depth: int) -> Test:
    needs = [_read_unit(cursor, read_one, depth)]
    while _taken(cursor, "&&"):
        needs.append(_read_unit(cursor, read_one, depth))
    return needs[0] if len(needs) == 1 else lambda value: all(need(value) for need in needs)


def _read_unit(cursor: Cursor, read_one: Callable[[], Test], depth: int) -> Test:
    cursor.blanks()
    begin = cursor.at
    if not cursor.take("("):
        return read_one()
    if depth == MAX_NESTING:
        cursor.fail(f"parentheses go at most {MAX_NESTING} deep", begin)
    joined = read_joined(cursor, read_one, depth + 1)
    cursor.blanks()
    cursor.need(")", "the parenthesis must be closed by )")
    return joined


def _taken(cursor: Cursor, sign: str) -> bool:
    cursor.blanks()
    return cursor.take(sign)
