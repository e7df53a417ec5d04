"""Reads the rule of a composite alarm: from its text to its steps. Pure.

Follows ``AlarmRule`` of ``PutCompositeAlarm`` (Amazon CloudWatch API Reference)::

    rule    := or
    or      := and (OR and)*
    and     := not (AND not)*
    not     := NOT? primary
    primary := STATE(alarm) | AT_LEAST(count or percentage, NOT? STATE, (alarm, ...)) | TRUE | FALSE | (rule)
    STATE   := ALARM | OK | INSUFFICIENT_DATA

An alarm is a name or an ARN, in double quotes or without; keywords may be in any case.
"""

from __future__ import annotations

import re
from typing import Final

from streamkit.alarms.alarm import AlarmState
from streamkit.alarms.rule import BARE_NAME, AtLeast, Constant, InState, Operator, Rule, Step, name_of
from streamkit.errors import ExpressionError
from streamkit.words import Token, words_of

MAX_CHARACTERS = 10_240
"""Of one rule."""
MAX_ALARMS = 100
"""Different ones, in one rule."""
MAX_ELEMENTS = 500
"""References to alarms, TRUE, FALSE and pairs of parentheses, in one rule."""

_WORDS = re.compile(
    rf"""(?P<space>\s+)
       | (?P<string>"(?:[^"\\]|\\.)*")
       | (?P<word>{BARE_NAME.pattern})
       | (?P<mark>[(),])""",
    re.VERBOSE | re.DOTALL,
)
_INSTEAD = {'"': 'this name has no end: add ", and write a quote within it as \\"'}
_STATES: Final[dict[str, AlarmState]] = {"ALARM": "ALARM", "OK": "OK", "INSUFFICIENT_DATA": "INSUFFICIENT_DATA"}
_BINDS = {"(": 0, "OR": 1, "AND": 2, "NOT": 3}
_OTHER_LANGUAGES = {"&&": "AND", "||": "OR", "!": "NOT", "&": "AND", "|": "OR"}
_OPERAND = "expected ALARM(...), OK(...), INSUFFICIENT_DATA(...), AT_LEAST(...), TRUE, FALSE, NOT or '('"


def parse_rule(text: str) -> Rule:
    """The rule that a text says. Whether the alarms it refers to exist is not looked at here.

    Raises:
        ExpressionError: with the position of the fault and what was expected there.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(
            text[: MAX_CHARACTERS + 1], MAX_CHARACTERS, f"a rule has at most {MAX_CHARACTERS:,} characters"
        )
    return _Parser(text).rule()


class _Parser:
    """The words of one rule, from left to right, with operators that wait for their operands.

    No method calls itself: parentheses may be as deep as a rule is long.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(words_of(text, _WORDS, _INSTEAD))
        self._at = 0
        self._steps: list[Step] = []
        self._waiting: list[tuple[Token, str]] = []
        """Parentheses and operators, with the word each is."""
        self._elements = 0
        self._alarms: set[str] = set()

    def rule(self) -> Rule:
        while True:
            self._operand()
            while self._is(")"):
                self._close()
            token = self._take()
            keyword = _keyword(token)
            if token.sort == "end":
                break
            if keyword not in ("AND", "OR"):
                instead = _OTHER_LANGUAGES.get(token.text)
                raise self._wrong(token, f"write {instead}" if instead else f"expected AND, OR or {self._ending()}")
            self._settle(_BINDS[keyword])
            self._waiting.append((token, keyword))
        self._settle(1)
        if self._waiting:
            raise self._wrong(self._waiting[-1][0], "this parenthesis is not closed: add ')'")
        return Rule(tuple(self._steps))

    def _operand(self) -> None:
        """NOT and opening parentheses, as many as there are, and then a condition."""
        while True:
            token = self._take()
            keyword = _keyword(token)
            if token.text == "(" and token.sort == "mark":
                self._count(token)
                self._waiting.append((token, "("))
            elif keyword == "NOT":
                if self._waiting and self._waiting[-1][1] == "NOT":
                    raise self._wrong(token, "write one NOT, or a parenthesis after the first")
                self._waiting.append((token, "NOT"))
            else:
                self._condition(token, keyword)
                return

    def _condition(self, token: Token, keyword: str) -> None:
        if keyword in ("TRUE", "FALSE"):
            self._count(token)
            self._steps.append(Constant(keyword == "TRUE"))
        elif keyword in _STATES:
            self._need("(", f"and the name of an alarm after {keyword}")
            alarm = self._alarm()
            self._need(")", "after the name of the alarm; one with spaces or parentheses goes in double quotes")
            self._steps.append(InState(_STATES[keyword], alarm))
        elif keyword == "AT_LEAST":
            self._steps.append(self._at_least())
        else:
            instead = _OTHER_LANGUAGES.get(token.text)
            raise self._wrong(token, f"write {instead}" if instead else _OPERAND)

    def _at_least(self) -> AtLeast:
        self._need("(", "after AT_LEAST")
        threshold = self._take()
        number = re.fullmatch(r"([0-9]{1,9})(%?)", threshold.text, re.ASCII)
        if threshold.sort != "word" or number is None:
            raise self._wrong(threshold, "expected a count of alarms such as 2, or a percentage such as 50%")
        self._need(",", "after the threshold")
        token = self._take()
        negated = _keyword(token) == "NOT"
        if negated:
            token = self._take()
        if _keyword(token) not in _STATES:
            wanted = "ALARM, OK or INSUFFICIENT_DATA"
            raise self._wrong(token, f"expected {wanted}" if negated else f"expected {wanted}, or NOT before one")
        self._need(",", "after the state")
        self._need("(", "before the names of the alarms")
        alarms = [self._alarm()]
        while self._is(","):
            self._take()
            at = self._tokens[self._at]
            alarms.append(self._alarm())
            if alarms[-1] in alarms[:-1]:
                raise self._wrong(at, f"alarm {alarms[-1]!r} is here twice, and would count as two")
        self._need(")", "or ',' after the name of an alarm")
        self._need(")", "to close AT_LEAST")
        count, is_percentage = int(number[1]), bool(number[2])
        most = 100 if is_percentage else len(alarms)
        if not 1 <= count <= most:
            what = "a percentage is 1% to 100%" if is_percentage else f"of {most} alarm(s), choose 1 to {most}"
            raise self._wrong(threshold, f"{what}, not {threshold.text}")
        return AtLeast(count, is_percentage, negated, _STATES[_keyword(token)], tuple(alarms))

    def _alarm(self) -> str:
        token = self._take()
        if token.sort not in ("word", "string"):
            raise self._wrong(token, "expected the name of an alarm")
        self._count(token)
        name = name_of(_unquoted(token.text) if token.sort == "string" else token.text)
        if not 1 <= len(name) <= 255:
            raise self._wrong(token, "the name of an alarm has 1 to 255 characters")
        self._alarms.add(name)
        if len(self._alarms) > MAX_ALARMS:
            raise self._wrong(token, f"a rule refers to at most {MAX_ALARMS} alarms: put some into a rule of their own")
        return name

    def _close(self) -> None:
        token = self._take()
        self._settle(1)
        if not self._waiting:
            raise self._wrong(token, "this ')' closes nothing: remove it, or add '('")
        self._waiting.pop()

    def _settle(self, binds: int) -> None:
        """The operators that have both their operands, as what follows binds no closer than this."""
        while self._waiting and _BINDS[self._waiting[-1][1]] >= binds:
            _, operator = self._waiting.pop()
            self._steps.append(_OPERATORS[operator])

    def _take(self) -> Token:
        token = self._tokens[self._at]
        if token.sort != "end":
            self._at += 1
        return token

    def _is(self, mark: str) -> bool:
        token = self._tokens[self._at]
        return token.sort == "mark" and token.text == mark

    def _need(self, mark: str, why: str) -> None:
        if not self._is(mark):
            raise self._wrong(self._tokens[self._at], f"expected {mark!r} {why}")
        self._take()

    def _ending(self) -> str:
        return "')'" if any(word == "(" for _, word in self._waiting) else "the end"

    def _count(self, token: Token) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise self._wrong(
                token, f"a rule has at most {MAX_ELEMENTS} alarms, constants and pairs of parentheses, all counted"
            )

    def _wrong(self, token: Token, what: str) -> ExpressionError:
        found = "the end" if token.sort == "end" else repr(token.text)
        return ExpressionError(self._text, token.at, f"{what}, not {found}" if what.startswith("expected") else what)


_OPERATORS: Final[dict[str, Operator]] = {"NOT": "NOT", "AND": "AND", "OR": "OR"}


def _keyword(token: Token) -> str:
    """The word in capitals; a name in quotes is none."""
    return token.text.upper() if token.sort == "word" else ""


def _unquoted(text: str) -> str:
    """Without its quotes, where a backslash takes the meaning from a quote and from another backslash."""
    return re.sub(r'\\(["\\])', r"\1", text[1:-1])
