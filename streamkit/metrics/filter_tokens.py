"""Reads the text of a filter pattern: blanks, words, quoted strings and regular expressions, each with its position.

Follows "Supported regular expressions (regex) syntax" of the CloudWatch Logs user guide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NoReturn

from streamkit.errors import ExpressionError

MAX_REGEXES = 2
"""In one pattern."""
MAX_REPEATS = 1000
"""The largest number that ``{m,n}`` takes."""
MAX_REGEX_CHARACTERS = 8192
"""A regular expression does not match in a longer text.

What it costs grows with the square of the text for one open repetition, and more steeply for several.
"""
MAX_NESTING = 50
"""Parentheses within parentheses."""

Search = Callable[[str], object]
"""Truthy if it is found in the text."""

_SYMBOLS = ":_#=@/;,- "
"""Documented, and the blank of the documentation's own ``%^shutting down%``."""
_OPERATORS = "^$?[]{}|\\*+."
_REPEAT = re.compile(r"\{ *(\d*) *(, *(\d*))? *\}", re.ASCII)
_HEX = re.compile(r"[0-7][0-9A-Fa-f]")


class Cursor:
    """A place in the text of a pattern."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self.at = at
        self.regexes = 0

    def fail(self, reason: str, at: int | None = None) -> NoReturn:
        """Raise an ``ExpressionError`` for here, or for ``at``."""
        raise ExpressionError(self.text, self.at if at is None else at, reason)

    @property
    def next(self) -> str:
        """The character here; empty at the end."""
        return self.text[self.at : self.at + 1]

    def blanks(self) -> None:
        """Go over blanks."""
        while self.next.isspace():
            self.at += 1

    def take(self, word: str) -> bool:
        """Go over ``word``, if it is here."""
        found = self.text.startswith(word, self.at)
        if found:
            self.at += len(word)
        return found

    def take_any(self, words: Iterable[str]) -> str:
        """Go over the first of ``words`` that is here; empty: none is."""
        return next((word for word in words if self.take(word)), "")

    def need(self, word: str, why: str) -> None:
        """Go over ``word``, which must be here."""
        if not self.take(word):
            self.fail(f"{why}, found {self.found()}")

    def found(self) -> str:
        """What is here, for messages."""
        return repr(self.next) if self.next else "the end of the pattern"

    def word(self, allowed: Callable[[str], bool]) -> str:
        """All characters from here on that are allowed."""
        begin = self.at
        while self.next and allowed(self.next):
            self.at += 1
        return self.text[begin : self.at]

    def quoted(self) -> list[str]:
        r"""The string in the quotes that begin here, as its characters.

        ``\"`` and the like are one element of two characters, so that ``\*`` is told from ``*``.
        """
        begin, quote = self.at, self.next
        self.at += 1
        characters: list[str] = []
        while self.next != quote:
            if not self.next:
                self.fail(f"this quote has no end: add {quote}", begin)
            size = 2 if self.next == "\\" and self.at + 1 < len(self.text) else 1
            characters.append(self.text[self.at : self.at + size])
            self.at += size
        self.at += 1
        return characters

    def regex(self) -> Search:
        """The regular expression between percent signs that begins here."""
        begin = self.at
        end = self.text.find("%", begin + 1)
        if end < 0:
            self.fail("this regular expression has no end: add %", begin)
        if end == begin + 1:
            self.fail("this regular expression is empty", begin)
        self.regexes += 1
        if self.regexes > MAX_REGEXES:
            self.fail(f"a pattern has at most {MAX_REGEXES} regular expressions", begin)
        source = _Regex(self.text, begin + 1, end).translated()
        self.at = end + 1
        try:
            search = re.compile(source, re.ASCII).search
        except (re.error, OverflowError) as error:  # pragma: no cover - what is checked compiles
            self.fail(f"this is no regular expression: {error}", begin)
        return lambda text: len(text) <= MAX_REGEX_CHARACTERS and search(text)


class _Regex:
    """Checks the documented subset and writes it as Python understands it."""

    def __init__(self, text: str, begin: int, end: int) -> None:
        self._cursor = Cursor(text[:end], begin)
        self._text = text

    def _fail(self, reason: str, at: int) -> NoReturn:
        raise ExpressionError(self._text, at, reason)

    def translated(self) -> str:
        cursor, parts, repeatable = self._cursor, list[str](), False
        while cursor.next:
            begin, character = cursor.at, cursor.next
            if character in "*+?{":
                if not repeatable:
                    self._fail(f"there is nothing here that {character} could repeat: write \\{character}", begin)
                parts.append(self._repeat())
                repeatable = False
            elif character == "[":
                parts.append(self._class())
                repeatable = True
            else:
                part = self._one()
                # A text may end with a line's end, which Python's $ would look past.
                parts.append({"$": r"\Z"}.get(part, part))
                repeatable = part not in {"^", "$", "|"}
        return "".join(parts)

    def _repeat(self) -> str:
        cursor = self._cursor
        if cursor.next != "{":
            cursor.at += 1
            return cursor.text[cursor.at - 1]
        found = _REPEAT.match(cursor.text, cursor.at)
        if found is None or not (found[1] or found[3]):
            self._fail("write {m}, {m,}, {,n} or {m,n}, or \\{ for the character", cursor.at)
        least, most = int(found[1] or 0), int(found[3] or found[1] or 0)
        if max(least, most) > MAX_REPEATS or (found[3] and least > most):
            self._fail(f"write {{m,n}} with m up to n and n up to {MAX_REPEATS:,}", cursor.at)
        cursor.at = found.end()
        return found[0].replace(" ", "")

    def _one(self) -> str:
        """One character or escape, outside of a class."""
        cursor = self._cursor
        character = cursor.next
        if character == "\\":
            return self._escape()
        self._check(character)
        if character in "]}":
            self._fail(f"this {character} closes nothing: write \\{character}", cursor.at)
        cursor.at += 1
        return character if character in "^$|." else re.escape(character)

    def _check(self, character: str) -> None:
        at = self._cursor.at
        if not character.isascii():
            self._fail(f"multi-byte characters such as {character!r} are not supported in a regular expression", at)
        if character in "()":
            self._fail(
                f"parentheses are not supported in a regular expression: \\x{ord(character):02X} matches one", at
            )
        if not (character.isalnum() or character in _SYMBOLS + _OPERATORS):
            code = f"\\x{ord(character):02X}"
            self._fail(f"{character!r} is not supported in a regular expression: write {code}", at)

    def _escape(self) -> str:
        cursor = self._cursor
        begin = cursor.at
        escaped = cursor.text[begin + 1 : begin + 2]
        cursor.at += 2
        if escaped == "x":
            code = _HEX.match(cursor.text, cursor.at)
            if code is None:
                self._fail("\\x takes two hexadecimal digits of an ASCII character", begin)
            cursor.at = code.end()
            return re.escape(chr(int(code[0], 16)))
        if escaped and escaped in "dDsSwW":
            return f"\\{escaped}"
        if not escaped or escaped not in _SYMBOLS + _OPERATORS:
            self._fail("an escape is \\d \\D \\s \\S \\w \\W \\xhh or an operator, such as \\.", begin)
        return re.escape(escaped)

    def _class(self) -> str:
        cursor = self._cursor
        begin = cursor.at
        cursor.at += 1
        negated = cursor.take("^")
        members: list[str] = []
        while cursor.next != "]":
            if not cursor.next:
                self._fail("this [ has no end: add ], or write \\[", begin)
            at, low = cursor.at, self._member()
            following = cursor.text[cursor.at : cursor.at + 2]
            if following.startswith("-") and len(following) == 2 and following != "-]":
                cursor.at += 1
                high = self._member()
                if len(low) != 1 or len(high) != 1 or low > high:
                    self._fail("a range goes from a character to a later one, such as a-z", at)
                members.append(f"\\x{ord(low):02x}-\\x{ord(high):02x}")
            else:
                members.append(low if len(low) == 2 else f"\\x{ord(low):02x}")
        cursor.at += 1
        if not members:
            self._fail("these brackets are empty", begin)
        return f"[{'^' * negated}{''.join(members)}]"

    def _member(self) -> str:
        """One character, or a class of them such as ``\\d``."""
        cursor = self._cursor
        if cursor.next != "\\":
            self._check(cursor.next)
            cursor.at += 1
            return cursor.text[cursor.at - 1]
        part = self._escape()
        return part if part[-1] in "dDsSwW" and len(part) == 2 else part[-1]
