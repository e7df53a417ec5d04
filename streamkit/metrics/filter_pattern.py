"""Filters on lines and records: CloudWatch's filter patterns, and whole regular expressions. Pure.

Follows "Filter pattern syntax for metric filters, subscription filters, filter log events" of the CloudWatch Logs user
guide, and ``TestMetricFilter`` of its API reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from streamkit.codecs import plain
from streamkit.errors import DecodeError, ExpressionError, ValidationError
from streamkit.metrics.filter_fields import compile_fields
from streamkit.metrics.filter_json import compile_json
from streamkit.metrics.filter_terms import compile_terms
from streamkit.metrics.filter_tokens import MAX_REGEX_CHARACTERS

MAX_PATTERN_CHARACTERS = 1024
MAX_TEST_MESSAGES = 50

Kind = Literal["all", "terms", "json", "fields"]


class Match(msgspec.Struct, frozen=True):
    """That a line or record matches."""

    values: dict[str, str]
    """What was extracted: ``$name`` of space-delimited fields and named groups, ``$.path`` of JSON selectors."""
    document: Any = None
    """The decoded JSON, for references to what the pattern does not name; None: the pattern is about text."""


class EventPattern(Protocol):
    """What is asked of an event pattern, such as ``streamkit.Pattern``."""

    def matches(self, event: Any, /) -> bool:
        """Whether a decoded record matches."""
        ...


class FilterPattern:
    """A compiled CloudWatch filter pattern.

    Empty, or of terms (``ERROR -"time out"``), on JSON (``{ $.latency > 50 }``) or on fields (``[ip, user, bytes>9]``).
    """

    def __init__(self, text: str) -> None:
        """Compile a pattern of up to 1,024 characters, at most 2 of its parts regular expressions.

        Those do not match in a text, a line or a value of it, of more than 8,192 characters.

        Raises:
            ExpressionError: with the position of the fault.
            ValidationError: It is no string, or too long.
        """
        if not isinstance(text, str):
            raise ValidationError(f"filter pattern is {text!r}: it must be a string")
        if len(text) > MAX_PATTERN_CHARACTERS:
            raise ValidationError(
                f"filter pattern has {len(text):,} characters: use at most {MAX_PATTERN_CHARACTERS:,}"
            )
        self.text = text
        self.kind: Kind
        self.names: tuple[str, ...] = ()
        """Of the fields of a space-delimited pattern."""
        self.match: Callable[[Any], Match | None]
        """Match a line, given as a string or bytes, or a decoded record, given as anything else.

        Terms and fields look at a record as JSON text, JSON patterns at a line decoded; one that is no JSON object or
        array does not match them.
        """
        bare = text.strip()
        if not bare:
            self.kind, self.match = "all", lambda line: Match({})
        elif bare.startswith("{"):
            self.kind, self.match = "json", _on_json(text)
        elif bare.startswith("["):
            fields = compile_fields(text)
            self.kind, self.names = "fields", fields.names
            self.match = lambda line: None if (found := fields.match(as_line(line))) is None else Match(found)
        else:
            terms = compile_terms(text)
            self.kind = "terms"
            self.match = lambda line: Match({}) if terms(as_line(line)) else None

    def __repr__(self) -> str:
        return f"FilterPattern({self.text!r})"


def _on_json(text: str) -> Callable[[Any], Match | None]:
    pattern = compile_json(text)

    def match(line: Any) -> Match | None:
        document = as_document(line)
        if document is None or not pattern.test(document):
            return None
        return Match(pattern.extracted(document), document)

    return match


class RegexFilter:
    """A Python regular expression, searched for in lines; its named groups are the extracted values.

    CloudWatch has no such filter. A regular expression can take time that grows steeply with the line: lines of more
    than ``max_characters`` do not match. That bounds the input, not the expression: write one without repetitions
    within repetitions.
    """

    def __init__(self, pattern: str, *, max_characters: int = MAX_REGEX_CHARACTERS) -> None:
        """Compile it.

        Args:
            pattern: Of up to 1,024 characters.
            max_characters: Longer lines do not match.

        Raises:
            ExpressionError: with the position of the fault.
            ValidationError: An argument is out of range.
        """
        if not isinstance(pattern, str) or not 1 <= len(pattern) <= MAX_PATTERN_CHARACTERS:
            raise ValidationError(f"regular expression: use a string of 1 to {MAX_PATTERN_CHARACTERS:,} characters")
        if max_characters < 1:
            raise ValidationError(f"max_characters is {max_characters}: use at least 1")
        self.pattern = pattern
        self.max_characters = max_characters
        try:
            self._regex = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            position = error.pos if isinstance(error, re.error) and error.pos is not None else 0
            raise ExpressionError(pattern, position, f"this is no regular expression: {error}") from None
        self.names = tuple(self._regex.groupindex)
        """Of its groups."""

    def __repr__(self) -> str:
        return f"RegexFilter({self.pattern!r})"

    def match(self, line: Any) -> Match | None:
        """Search a line, given as a string or bytes, or a decoded record as JSON text."""
        text = as_line(line)
        if len(text) > self.max_characters:
            return None
        found = self._regex.search(text)
        if found is None:
            return None
        return Match({f"${name}": value for name, value in found.groupdict().items() if value is not None})


class FilterMatch(msgspec.Struct, frozen=True):
    """A message that matches (``MetricFilterMatchRecord``)."""

    event_number: int
    """From 1."""
    event_message: str
    extracted_values: dict[str, str]


def test_metric_filter(pattern: FilterPattern | RegexFilter | str, messages: Sequence[str]) -> list[FilterMatch]:
    """Try a pattern on 1 to 50 messages (``TestMetricFilter``).

    Raises:
        ExpressionError: The pattern is not valid.
        ValidationError: There are no messages, or too many.
    """
    if not 1 <= len(messages) <= MAX_TEST_MESSAGES:
        raise ValidationError(f"{len(messages)} messages: give 1 to {MAX_TEST_MESSAGES}")
    compiled = FilterPattern(pattern) if isinstance(pattern, str) else pattern
    found = [(number, message, compiled.match(message)) for number, message in enumerate(messages, 1)]
    return [FilterMatch(number, message, match.values) for number, message, match in found if match is not None]


# It is called as AWS calls it, and is no test itself.
test_metric_filter.__test__ = False  # type: ignore[attr-defined]


def as_line(event: Any) -> str:
    """A line as it is, or a decoded record as JSON text; one that has no such form is an empty line."""
    if isinstance(event, str):
        return event
    if isinstance(event, bytes):
        return event.decode(errors="replace")
    try:
        return msgspec.json.encode(event, enc_hook=str).decode()
    except (ValueError, TypeError, RecursionError):
        # Halves of surrogates, and whole numbers of thousands of digits.
        return ""


def as_document(event: Any) -> Any:
    """A decoded record in plain values, or what a line says in JSON; None: it is no JSON object or array."""
    if isinstance(event, (str, bytes)):
        line = event if isinstance(event, str) else event.decode(errors="replace")
        # Most lines of a log that are no JSON are told by their first character.
        if line.lstrip()[:1] not in {"{", "["}:
            return None
        try:
            event = plain(line.encode())
        except (DecodeError, UnicodeEncodeError):
            return None
    elif not isinstance(event, (dict, list)):
        event = msgspec.to_builtins(event, enc_hook=str)
    return event if isinstance(event, (dict, list)) else None
