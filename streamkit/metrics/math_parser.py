"""Reads metric math: from the text of an expression to its tree. Pure.

Follows "Metric math syntax and functions" (Amazon CloudWatch User Guide). What binds closest comes first:

==============================  ==========================================================
``^``                           from the right: ``2^3^2`` is ``2^(3^2)``
``-`` before an operand         ``-m1^2`` is ``-(m1^2)``, ``2^-1`` is a half
``*`` ``/``                     from the left
``+`` ``-``                     from the left
``==`` ``!=`` ``<`` ``>`` ...   two operands: of three, say with parentheses which two
``AND`` or ``&&``               from the left
``OR`` or ``||``                from the left
==============================  ==========================================================
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from streamkit.errors import ExpressionError
from streamkit.metrics.math_tokens import tokens_of
from streamkit.words import Token

MAX_DEPTH = 40
"""Parentheses, brackets, signs and powers within each other."""

Operator = Literal["+", "-", "*", "/", "^", "==", "!=", "<", ">", "<=", ">=", "AND", "OR"]

_LEVELS: tuple[dict[str, Operator], ...] = (
    {"OR": "OR", "||": "OR"},
    {"AND": "AND", "&&": "AND"},
    {"==": "==", "!=": "!=", "<": "<", ">": ">", "<=": "<=", ">=": ">="},
    {"+": "+", "-": "-"},
    {"*": "*", "/": "/"},
)
"""From what binds last to what binds closest."""
_COMPARISON = 2


class Number(msgspec.Struct, frozen=True):
    """``50.25``"""

    value: float
    at: int


class Text(msgspec.Struct, frozen=True):
    """``"errors"``"""

    value: str
    at: int


class Word(msgspec.Struct, frozen=True):
    """``REPEAT``: what is said to a function."""

    value: str
    at: int


class Id(msgspec.Struct, frozen=True):
    """``m1``"""

    value: str
    at: int


class Listing(msgspec.Struct, frozen=True):
    """``[m1, m2]``"""

    items: tuple[Node, ...]
    at: int


class Negative(msgspec.Struct, frozen=True):
    """``-m1``"""

    operand: Node
    at: int


class Step(msgspec.Struct, frozen=True):
    """An operator, where it is, and what follows it."""

    operator: Operator
    operand: Node
    at: int


class Chain(msgspec.Struct, frozen=True):
    """``m1 + m2 - 3``: operators that bind alike, from the left; a list, as a tree of them could be too deep."""

    first: Node
    steps: tuple[Step, ...]
    at: int


class Call(msgspec.Struct, frozen=True):
    """``AVG(m1)``"""

    name: str
    arguments: tuple[Node, ...]
    at: int


Node = Number | Text | Word | Id | Listing | Negative | Chain | Call


def parsed(text: str) -> Node:
    """The tree of an expression. Which functions there are, and what they take, is not looked at here.

    Raises:
        ExpressionError: with the position of the fault.
    """
    parser = _Parser(text)
    node = parser.level(0)
    parser.end()
    return node


class _Parser:
    """The words of one expression, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens_of(text)
        self._at = 0
        self._depth = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._next
        if token.sort != "end":
            self._at += 1
        return token

    def _is(self, *texts: str) -> bool:
        return self._next.sort in ("mark", "word") and self._next.text in texts

    def _need(self, mark: str, why: str) -> None:
        if not self._is(mark):
            raise self._wrong(f"expected {mark!r} {why}")
        self._take()

    def _wrong(self, what: str, token: Token | None = None) -> ExpressionError:
        token = token or self._next
        found = "the end" if token.sort == "end" else repr(token.text)
        return ExpressionError(self._text, token.at, f"{what}, not {found}" if what.startswith("expected") else what)

    def end(self) -> None:
        token = self._next
        if token.sort == "end":
            return
        if token.text.upper() in ("AND", "OR"):
            raise self._wrong(f"write {token.text.upper()} in capitals")
        raise self._wrong("expected an operator or the end")

    def level(self, level: int) -> Node:
        """A chain of operators of this level, or what binds closer."""
        if level == len(_LEVELS):
            return self._signed()
        operators = _LEVELS[level]
        first = self.level(level + 1)
        steps: list[Step] = []
        while self._is(*operators):
            token = self._take()
            if steps and level == _COMPARISON:
                raise self._wrong("compare two at a time: add parentheses, or write a < b AND b < c", token)
            steps.append(Step(operators[token.text], self.level(level + 1), token.at))
        return Chain(first, tuple(steps), first.at) if steps else first

    def _signed(self) -> Node:
        if not self._is("-"):
            return self._power()
        sign = self._take()
        self._enter(sign)
        operand = self._signed()
        self._depth -= 1
        return Negative(operand, sign.at)

    def _power(self) -> Node:
        base = self._operand()
        if not self._is("^"):
            return base
        token = self._take()
        self._enter(token)
        exponent = self._signed()
        self._depth -= 1
        return Chain(base, (Step("^", exponent, token.at),), base.at)

    def _operand(self) -> Node:
        token = self._take()
        if token.sort == "number":
            value = float(token.text)
            if not math.isfinite(value):
                raise self._wrong("this number is too large", token)
            return Number(value, token.at)
        if token.sort == "string":
            return Text(token.text, token.at)
        if token.sort == "id":
            if self._is("("):
                raise self._wrong(f"functions are written in capitals: {token.text.upper()}", token)
            return Id(token.text, token.at)
        if token.sort == "word" and token.text not in ("AND", "OR"):
            return self._call(token) if self._is("(") else Word(token.text, token.at)
        if token.sort == "mark" and token.text == "(":
            self._enter(token)
            node = self.level(0)
            self._need(")", "to close the parenthesis")
            self._depth -= 1
            return node
        if token.sort == "mark" and token.text == "[":
            return Listing(self._items("]", token), token.at)
        raise self._wrong("expected a number, an id, a function, '(' or '['", token)

    def _call(self, name: Token) -> Call:
        opening = self._take()
        if self._is(")"):
            self._take()
            return Call(name.text, (), name.at)
        return Call(name.text, self._items(")", opening), name.at)

    def _items(self, closing: str, opening: Token) -> tuple[Node, ...]:
        self._enter(opening)
        items = [self.level(0)]
        while self._is(","):
            self._take()
            items.append(self.level(0))
        self._need(closing, "or ','")
        self._depth -= 1
        return tuple(items)

    def _enter(self, token: Token) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(f"it is nested more than {MAX_DEPTH} deep: make it several expressions", token)
