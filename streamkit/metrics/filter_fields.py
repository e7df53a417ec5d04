"""Patterns on space-delimited lines: ``[ip, user, request=*.html*, status=4*, bytes>1000]``.

Follows "Using filter patterns to match terms in space-delimited log events" of the CloudWatch Logs user guide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from streamkit.metrics.filter_tokens import Cursor
from streamkit.metrics.filter_values import Test, read_joined, read_test

_TOKEN = re.compile(r'\[([^\]]*)\](?!\S)|"([^"]*)"(?!\S)|(\S+)')
"""What is in brackets or quotes is one field, without them."""


class FieldTest(msgspec.Struct, frozen=True):
    """One field of a pattern: its name, and what is asked of it."""

    name: str
    test: Test | None = None


class FieldsPattern(msgspec.Struct, frozen=True):
    """A compiled space-delimited pattern."""

    head: tuple[FieldTest, ...]
    """Those before the ellipsis, or all."""
    tail: tuple[FieldTest, ...] | None
    """Those after it; None: there is none."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of its fields, in order."""
        return tuple(field.name for field in (*self.head, *(self.tail or ())))

    def match(self, line: str) -> dict[str, str] | None:
        """The fields of ``line`` by their names, with ``$`` before them, or None.

        Those the pattern does not name are called by their place: ``$1`` is the first. Without an ellipsis the last
        field takes what is left of the line, so that ``[level=ERROR, rest]`` matches lines of any length.
        """
        fields = _fields(line, None if self.tail is not None or not self.head else len(self.head))
        tail = self.tail or ()
        missing = len(fields) - len(self.head) - len(tail)
        if missing < 0:
            return None
        end = len(fields) - len(tail)
        for tests, texts in ((self.head, fields), (tail, fields[end:])):
            for field, text in zip(tests, texts, strict=False):
                if field.test is not None and not field.test(text):
                    return None
        begin = len(self.head)
        names = [field.name for field in self.head]
        names += [str(place + 1) for place in range(begin, end)]
        names += [field.name for field in tail]
        return {f"${name}": text for name, text in zip(names, fields, strict=True)}


def _fields(line: str, most: int | None) -> Sequence[str]:
    fields: list[str] = []
    for found in _TOKEN.finditer(line):
        if len(fields) + 1 == most and line[found.end() :].strip():
            fields.append(line[found.start() :].strip())
            break
        fields.append(found[found.lastindex or 0])
    return fields


def compile_fields(text: str) -> FieldsPattern:
    """Compile a pattern in brackets.

    Raises:
        ExpressionError: with the position.
    """
    cursor = Cursor(text)
    cursor.blanks()
    cursor.need("[", "a space-delimited pattern begins with [")
    head: list[FieldTest] = []
    tail: list[FieldTest] | None = None
    names: set[str] = set()
    cursor.blanks()
    empty = cursor.take("]")
    while not empty:
        cursor.blanks()
        begin = cursor.at
        if cursor.take("..."):
            if tail is not None:
                cursor.fail("a pattern has at most one ellipsis", begin)
            tail = []
        else:
            field = _read_field(cursor)
            if field.name in names:
                cursor.fail(f"field {field.name!r} is named twice: join its conditions by && or ||", begin)
            names.add(field.name)
            (head if tail is None else tail).append(field)
        cursor.blanks()
        if cursor.take("]"):
            break
        cursor.need(",", "a comma or the closing ] must follow the field")
    cursor.blanks()
    if cursor.next:
        cursor.fail(f"nothing may follow the closing ], found {cursor.found()}")
    return FieldsPattern(tuple(head), None if tail is None else tuple(tail))


def _read_field(cursor: Cursor) -> FieldTest:
    begin = cursor.at
    # The parentheses of a condition come before its first name.
    while cursor.take("("):
        cursor.blanks()
    name = _read_name(cursor)
    cursor.blanks()
    if cursor.next in {",", "]", ""} and cursor.text[begin] != "(":
        return FieldTest(name)
    cursor.at = begin

    def read_condition() -> Test:
        cursor.blanks()
        at = cursor.at
        if _read_name(cursor) != name:
            cursor.fail(f"conditions of one field are all on {name!r}: put a comma before another field", at)
        return read_test(cursor, texts_are_numbers=True)

    return FieldTest(name, read_joined(cursor, read_condition))


def _read_name(cursor: Cursor) -> str:
    name = cursor.word(lambda character: character.isalnum() or character in "_-")
    if not name:
        cursor.fail(f"a field's name or ... must be here, found {cursor.found()}")
    return name
