"""Where a mapping's patterns look: a record's ``data``, a message's ``body``, and what is beside them. Pure and hot.

Follows the AWS Lambda Developer Guide ("Event filtering"), with its rules for payloads that are no JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streamkit.codecs import plain
from streamkit.errors import DecodeError, InvalidPatternError
from streamkit.functions.leaf import Conjunction, Leaf
from streamkit.functions.pattern import Pattern
from streamkit.functions.pattern_set import PatternSet
from streamkit.streams.record import StoredRecord

MAX_FILTERS = 1_000
"""AWS: 5, and 10 by quota. Many cost little here, because they are indexed."""
MAX_PATTERN_CHARACTERS = 4096
_NOT_JSON = object()


class RecordFilters:
    """The filters of a mapping from a stream: a record passes if one of the patterns matches.

    ``data`` is matched against the record's payload decoded as JSON; a payload that is no JSON object fails every
    pattern that looks at it. Other keys are ``partitionKey``, ``sequenceNumber`` (text) and
    ``approximateArrivalTimestamp`` (seconds).
    """

    def __init__(self, patterns: Sequence[Mapping[str, Any]]) -> None:
        """Compile the patterns.

        Raises:
            InvalidPatternError: with the path to the fault.
        """
        compiled = _compiled(patterns, "data")
        for pattern in patterns:
            if "data" in pattern and not isinstance(pattern["data"], Mapping):
                raise InvalidPatternError("data", "the pattern of a stream's data is an object")
        # What a pattern of `data` alone asks is asked of the payload itself.
        self._of_data = PatternSet(
            [Pattern(dict(pattern["data"])) for pattern in patterns if list(pattern) == ["data"]]
        )
        self._everything = [leaves for pattern in compiled for leaves in pattern.alternatives]
        others = [one for one, pattern in zip(compiled, patterns, strict=True) if list(pattern) != ["data"]]
        alternatives = [leaves for pattern in others for leaves in pattern.alternatives]
        self._without_data = [leaves for leaves in alternatives if not any(map(_of_data, leaves.leaves))]
        self._with_data = [leaves for leaves in alternatives if any(map(_of_data, leaves.leaves))]
        self._needs_data = bool(self._with_data or self._of_data)
        self._only_data = not others

    def matches(self, record: StoredRecord) -> bool:
        """Whether a record passes. The payload is decoded at most once, and only if a pattern looks at it. HOT."""
        metadata: dict[str, Any] = {}
        if not self._only_data:
            metadata = _metadata(record)
            if _any(metadata, self._without_data):
                return True
            if not self._needs_data:
                return False
        try:
            data = plain(record.data)
        except DecodeError:
            return False
        if data.__class__ is dict:
            if self._of_data.any(data):
                return True
            return not self._only_data and _any({**metadata, "data": data}, self._with_data)
        # AWS: a scalar is valid JSON, in which a pattern of fields finds nothing to look at.
        return isinstance(data, list) and _any({**_metadata(record), "data": data}, self._everything)


class MessageFilters:
    """The filters of a mapping from a queue: a message passes if one of the patterns matches its body.

    An object under ``body`` is asked of a body that is JSON, an array of one that is not; either fails on the other.
    """

    def __init__(self, patterns: Sequence[Mapping[str, Any]]) -> None:
        """Compile the patterns.

        Raises:
            InvalidPatternError: with the path to the fault.
        """
        alternatives = [leaves for pattern in _compiled(patterns, "body") for leaves in pattern.alternatives]
        for leaves in alternatives:
            for leaf in leaves.leaves:
                if leaf.parts[0] != "body":
                    raise InvalidPatternError(leaf.text, "a filter of a queue looks at the body: put it under 'body'")
        self._of_text = [leaves for leaves in alternatives if all(len(leaf.parts) == 1 for leaf in leaves.leaves)]
        self._of_json = [leaves for leaves in alternatives if all(len(leaf.parts) > 1 for leaf in leaves.leaves)]

    def matches(self, body: bytes) -> bool:
        """Whether a message passes."""
        try:
            decoded = plain(body)
        except DecodeError:
            try:
                return _any({"body": body.decode()}, self._of_text)
            except UnicodeDecodeError:
                return False
        return isinstance(decoded, (dict, list)) and _any({"body": decoded}, self._of_json)


def _compiled(patterns: Sequence[Mapping[str, Any]], payload: str) -> list[Pattern]:
    if len(patterns) > MAX_FILTERS:
        raise InvalidPatternError("", f"a mapping has at most {MAX_FILTERS:,} filters, not {len(patterns):,}")
    for pattern in patterns:
        if not isinstance(pattern, Mapping):
            raise InvalidPatternError("", f"{pattern!r:.60} is no pattern: use an object such as {{{payload!r}: ...}}")
        try:
            size = len(msgspec.json.encode(dict(pattern)))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidPatternError("", f"it has no JSON form: {error}") from None
        if size > MAX_PATTERN_CHARACTERS:
            raise InvalidPatternError("", f"a pattern has at most {MAX_PATTERN_CHARACTERS:,} characters")
    return [Pattern(pattern) for pattern in patterns]


def _any(event: dict[str, Any], alternatives: Sequence[Conjunction]) -> bool:
    return any(leaves.holds(event) for leaves in alternatives)


def _of_data(leaf: Leaf) -> bool:
    return leaf.parts[0] == "data"


def _metadata(record: StoredRecord) -> dict[str, Any]:
    return {
        "partitionKey": record.partition_key,
        "sequenceNumber": str(record.sequence_number),
        "approximateArrivalTimestamp": record.arrival_ms / 1000,
    }
