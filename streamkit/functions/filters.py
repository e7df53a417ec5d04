"""Where a mapping's patterns look: a record's ``data``, a message's ``body``, and what is beside them. Pure and hot.

Follows the AWS Lambda Developer Guide ("Control which events Lambda sends to your function"). What a pattern takes the
payload for is told by its ``data`` or ``body``, also within ``$or``: an object asks for JSON, an array for text.

====================  =======================  =======================  ==============================
payload               pattern asks for JSON    pattern asks for text    pattern does not look at it
====================  =======================  =======================  ==============================
a record's, JSON      evaluated                refused when it is made  evaluated on the other keys
a record's, not JSON  no match                 refused when it is made  evaluated on the other keys
a message's, JSON     evaluated                no match                 refused when it is made
a message's, text     no match                 evaluated                refused when it is made
====================  =======================  =======================  ==============================

A bare JSON scalar (``12``, ``"x"``, ``null``) is JSON without fields: no pattern that asks for JSON matches it. A body
that is neither JSON nor UTF-8 matches no pattern.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streamkit.codecs import plain
from streamkit.errors import DecodeError, InvalidPatternError
from streamkit.functions.pattern import Pattern
from streamkit.functions.pattern_index import PatternSet
from streamkit.functions.pattern_leaf import Leaf
from streamkit.streams.record import StoredRecord

MAX_FILTERS = 1_000
"""AWS: 5, and 10 by quota. Many cost little here, because they are indexed."""


class RecordFilters:
    """The filters of a mapping from a stream: a record passes if one of the patterns matches.

    ``data`` is matched against the record's payload decoded as JSON. Other keys are ``partitionKey``,
    ``sequenceNumber`` (text) and ``approximateArrivalTimestamp`` (seconds).
    """

    def __init__(self, patterns: Sequence[Mapping[str, Any]]) -> None:
        """Compile the patterns.

        Raises:
            InvalidPatternError: with the path to the fault.
        """
        compiled = _compiled(patterns, "data")
        looking: list[Pattern] = []
        inside: list[Pattern] = []
        mixed: list[Pattern] = []
        beside: list[Pattern] = []
        for pattern, source in zip(compiled, patterns, strict=True):
            if any(_is_text(leaf) for leaf in _leaves_at(pattern, "data")):
                raise InvalidPatternError("data", "the pattern of a stream's data is an object: data is JSON")
            if not any(True for _ in _leaves_at(pattern, "data")):
                beside.append(pattern)
                continue
            looking.append(pattern)
            if list(source) == ["data"]:
                # What a pattern of `data` alone asks is asked of the payload itself.
                inside.append(Pattern(source["data"]))
            else:
                mixed.append(pattern)
        self._inside = PatternSet(inside)
        self._mixed = PatternSet(mixed) if mixed else None
        self._beside = PatternSet(beside) if beside else None
        self._looking = PatternSet(looking)

    def matches(self, record: StoredRecord) -> bool:
        """Whether a record passes. The payload is decoded at most once, and only if a pattern looks at it. HOT."""
        if self._beside is not None:
            if self._beside.any(_metadata(record)):
                return True
            if not self._looking.patterns:
                return False
        try:
            data = plain(record.data)
        except DecodeError:
            return False
        if isinstance(data, dict):
            if self._inside.any(data):
                return True
            return self._mixed is not None and self._mixed.any({**_metadata(record), "data": data})
        # An array's elements are looked into, of a scalar nothing is.
        return isinstance(data, list) and self._looking.any({**_metadata(record), "data": data})


class MessageFilters:
    """The filters of a mapping from a queue: a message passes if one of the patterns matches its body.

    ``body`` is an object, for bodies that are JSON, or an array of matchers, for those that are plain text; either
    fails on the other.
    """

    def __init__(self, patterns: Sequence[Mapping[str, Any]]) -> None:
        """Compile the patterns.

        Raises:
            InvalidPatternError: with the path to the fault.
        """
        of_text: list[Pattern] = []
        of_json: list[Pattern] = []
        for pattern in _compiled(patterns, "body"):
            for leaf in (leaf for leaves in pattern.alternatives for leaf in leaves):
                if leaf.parts[0] != "body":
                    raise InvalidPatternError(leaf.text, "a filter of a queue looks at the body: put it under 'body'")
            asked = {_is_text(leaf) for leaf in _leaves_at(pattern, "body")}
            if len(asked) > 1:
                raise InvalidPatternError(
                    "body", "one pattern asks for JSON and for text, which nothing is at once: use two filters"
                )
            (of_text if asked == {True} else of_json).append(pattern)
        self._of_text = PatternSet(of_text)
        self._of_json = PatternSet(of_json)

    def matches(self, body: bytes) -> bool:
        """Whether a message passes. HOT."""
        try:
            decoded = plain(body)
        except DecodeError:
            try:
                return self._of_text.any({"body": body.decode()})
            except UnicodeDecodeError:
                return False
        return isinstance(decoded, (dict, list)) and self._of_json.any({"body": decoded})


def _compiled(patterns: Sequence[Mapping[str, Any]], payload: str) -> list[Pattern]:
    if len(patterns) > MAX_FILTERS:
        raise InvalidPatternError("", f"a mapping has at most {MAX_FILTERS:,} filters, not {len(patterns):,}")
    for pattern in patterns:
        if not isinstance(pattern, Mapping):
            raise InvalidPatternError("", f"{pattern!r:.60} is no pattern: use an object such as {{{payload!r}: ...}}")
    return [Pattern(pattern) for pattern in patterns]


def _leaves_at(pattern: Pattern, payload: str) -> Iterator[Leaf]:
    return (leaf for leaves in pattern.alternatives for leaf in leaves if leaf.parts[0] == payload)


def _is_text(leaf: Leaf) -> bool:
    return len(leaf.parts) == 1


def _metadata(record: StoredRecord) -> dict[str, Any]:
    return {
        "partitionKey": record.partition_key,
        "sequenceNumber": str(record.sequence_number),
        "approximateArrivalTimestamp": record.arrival_ms / 1000,
    }
