"""What every expression is made of: names, values and paths, read word by word. Pure.

``names`` and ``values`` are what ``#name`` and ``:value`` stand for; each must be used, and each that is used must be
there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamkit.errors import ExpressionError
from streamkit.tables.condition import Value, kind_of
from streamkit.tables.path import Path
from streamkit.tables.reserved import RESERVED
from streamkit.tables.tokens import tokens_of
from streamkit.words import Token

MAX_INDEX = 2**31


class Substitutes:
    """What placeholders stand for, and which of them were used; shared by the expressions of one call."""

    def __init__(self, names: Mapping[str, str], values: Mapping[str, Any]) -> None:
        self.names = names
        self.values = values
        self.used: set[str] = set()

    def check_used(self, text: str) -> None:
        """Refuse placeholders that nothing uses.

        Raises:
            ExpressionError: names them.
        """
        unused = sorted({*self.names, *self.values} - self.used)
        if unused:
            raise ExpressionError(text, 0, f"{', '.join(unused)} {'is' if len(unused) == 1 else 'are'} never used")


class Words:
    """The words of one expression, from left to right."""

    def __init__(self, text: str, substitutes: Substitutes) -> None:
        self.text = text
        self._substitutes = substitutes
        self._tokens = tokens_of(text)
        self._at = 0

    @property
    def next(self) -> Token:
        """The word that is read next."""
        return self._tokens[self._at]

    def after(self, count: int = 1) -> Token:
        """The word so many after the next."""
        return self._tokens[min(self._at + count, len(self._tokens) - 1)]

    def take(self) -> Token:
        """Read a word."""
        token = self._tokens[self._at]
        if token.sort != "end":
            self._at += 1
        return token

    def is_keyword(self, word: str) -> bool:
        """Whether the next word is this keyword, in whatever case."""
        return self.next.sort == "name" and self.next.text.upper() == word

    def take_keyword(self, word: str) -> bool:
        """Read this keyword if it is next."""
        if self.is_keyword(word):
            self.take()
            return True
        return False

    def is_mark(self, *marks: str) -> bool:
        """Whether the next word is one of these marks."""
        return self.next.sort == "mark" and self.next.text in marks

    def take_mark(self, mark: str) -> bool:
        """Read this mark if it is next."""
        if self.is_mark(mark):
            self.take()
            return True
        return False

    def expect(self, mark: str) -> Token:
        """Read a mark that must be there."""
        if not self.is_mark(mark):
            raise self.wrong(f"expected {mark!r}")
        return self.take()

    def wrong(self, what: str, token: Token | None = None) -> ExpressionError:
        """What is wrong at a word, the next one unless given."""
        token = token or self.next
        found = "" if token.sort == "end" else f", not {token.text!r}"
        return ExpressionError(self.text, token.at, f"{what}{found if what.startswith('expected') else ''}")

    def end(self) -> None:
        """Refuse what is left over."""
        if self.next.sort != "end":
            raise self.wrong(f"unexpected {self.next.text!r}")

    # ---- paths and values

    def is_path(self) -> bool:
        """Whether a path begins here."""
        return self.next.sort in ("name", "alias")

    def path(self) -> Path:
        """``name.name[0].name``"""
        parts: list[str | int] = [self._name()]
        while True:
            if self.take_mark("."):
                parts.append(self._name())
            elif self.take_mark("["):
                token = self.take()
                if token.sort != "number" or int(token.text) >= MAX_INDEX:
                    raise self.wrong("expected a place in a list, a number", token)
                parts.append(int(token.text))
                self.expect("]")
            else:
                return Path(tuple(parts))

    def _name(self) -> str:
        token = self.take()
        if token.sort == "alias":
            self._substitutes.used.add(token.text)
            try:
                return self._substitutes.names[token.text]
            except KeyError:
                raise ExpressionError(self.text, token.at, f"{token.text} stands for no name: pass names=") from None
        if token.sort != "name":
            raise self.wrong("expected the name of an attribute", token)
        if token.text.upper() in RESERVED:
            raise ExpressionError(
                self.text,
                token.at,
                f"{token.text!r} is a reserved word: write #{token.text} and say what it stands for in names=",
            )
        return token.text

    def value(self) -> Value:
        """``:value``"""
        token = self.take()
        if token.sort != "value":
            raise self.wrong("expected a value such as :value", token)
        self._substitutes.used.add(token.text)
        try:
            found = self._substitutes.values[token.text]
        except KeyError:
            raise ExpressionError(self.text, token.at, f"{token.text} stands for no value: pass values=") from None
        if kind_of(found) is None:
            raise ExpressionError(self.text, token.at, f"{token.text} is {found!r:.80}, which no item can hold")
        return Value(found)
